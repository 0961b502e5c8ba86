//! What a mini program can ask with its app token: the unionid of somebody who paid, and whether a
//! session key is still good (`docs/wechat.md` §3.3, §8).

use super::answer::Body;
use super::gate::Call;
use super::payment::{PAID_MS, Paid, Payment};
use super::simulator::{LoginError, Simulator, lock};
use super::world::AppNo;
use crate::model::Millis;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

impl Simulator {
    /// The person pays in the mini program, now.
    ///
    /// # Errors
    /// [`LoginError`]: app or person are not of this world.
    pub fn pay(&self, app: AppNo, person: u64) -> Result<Payment, LoginError> {
        self.paid_at(app, person, self.now())
    }

    /// The same at another time.
    ///
    /// # Errors
    /// As [`Simulator::pay`].
    pub fn paid_at(&self, app: AppNo, person: u64, at: Millis) -> Result<Payment, LoginError> {
        self.known(app, person)?;
        Ok(Paid { app, person, at }.write(&self.signers.pay))
    }

    fn openid_of(&self, call: &Call, app: AppNo) -> Result<u64, i32> {
        match call.request.field("openid") {
            "" => Err(41009),
            openid => self.world.person_of(openid, app).ok_or(40003),
        }
    }

    /// `GET /wxa/getpaidunionid`.
    pub(super) fn paid_unionid(&self, call: &Call, app: AppNo) -> Result<Body, i32> {
        let person = self.openid_of(call, app)?;
        let field = |name| call.request.field(name);
        let paid = match field("transaction_id") {
            "" => Paid::of_order(&self.signers.pay, field("mch_id"), field("out_trade_no")),
            id => Paid::of_transaction(&self.signers.pay, id),
        };
        if !self.world.bound(app, self.now()) {
            return Err(89002);
        }
        let own = paid.filter(|p| (p.app, p.person) == (app, person));
        let age = self.now().since(own.ok_or(89300)?.at);
        // Payments are told to the second.
        if !(0..=PAID_MS + 999).contains(&age) {
            return Err(89300);
        }
        let unionid = self.world.unionid_text(person, app).ok_or(89002)?;
        Ok(Body::new()
            .text("unionid", &unionid)
            .number("errcode", 0)
            .text("errmsg", "ok"))
    }

    /// The person and current session whose key the request is signed with.
    fn signed_session(&self, call: &Call, app: AppNo) -> Result<(u64, u16), i32> {
        let person = self.openid_of(call, app)?;
        if call.request.field("sig_method") != "hmac_sha256" {
            return Err(87008);
        }
        let epoch = lock(&self.sessions).current(person, app);
        if epoch == 0 {
            return Err(87007);
        }
        let key = self.world.session_key(person, app, epoch);
        if call.request.field("signature") != signature(&key, b"") {
            return Err(87009);
        }
        Ok((person, epoch))
    }

    /// `GET /wxa/checksession`.
    pub(super) fn session_checked(&self, call: &Call, app: AppNo) -> Result<Body, i32> {
        self.signed_session(call, app)?;
        Ok(Body::fine())
    }

    /// `GET /wxa/resetusersessionkey`: the session goes on under another key.
    pub(super) fn session_reset(&self, call: &Call, app: AppNo, real: bool) -> Result<Body, i32> {
        let (person, epoch) = self.signed_session(call, app)?;
        let next = if real {
            lock(&self.sessions).next(person, app)
        } else {
            epoch.wrapping_add(1)
        };
        Ok(Body::fine()
            .text("openid", &self.world.openid_text(person, app))
            .text("session_key", &self.world.session_key(person, app, next)))
    }
}

/// Lower-case hex HMAC-SHA256 under the session key's base64 text (`docs/wechat.md` §3.3).
pub(super) fn signature(session_key: &str, message: &[u8]) -> String {
    let mut key = [0u8; 64];
    for (slot, byte) in key.iter_mut().zip(session_key.bytes()) {
        *slot = byte;
    }
    let mut mac = Hmac::<Sha256>::new(&key.into());
    mac.update(message);
    hex::encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `docs/wechat.md` §3.3, the official vector.
    #[test]
    fn signs_the_official_sample() {
        let want = "654571f79995b2ce1e149e53c0a33dc39c0a74090db514261454e8dbe432aa0b";
        let key = "o0q0otL8aEzpcZL/FT9WsQ==";
        assert_eq!(signature(key, br#"{"foo":"bar"}"#), want);
    }
}
