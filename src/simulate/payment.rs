//! Payments in mini programs: their numbers say whose they are and when they were made, and are
//! signed, so that none is stored (`docs/wechat.md` §8).

use super::crypto::Keyed;
use super::world::AppNo;
use crate::model::Millis;
use serde::Serialize;

/// How long a payment tells the unionid, in ms.
pub(super) const PAID_MS: i64 = 5 * 60_000;
/// What WeChat Pay's transaction numbers begin with.
const TRANSACTION: &str = "4200";

/// What a payment leaves behind: `transaction_id` alone names it, or the other two.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Payment {
    /// WeChat Pay's number: 28 digits.
    pub transaction_id: String,
    /// The merchant.
    pub mch_id: String,
    /// The merchant's own number.
    pub out_trade_no: String,
}

/// Who paid where and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Paid {
    pub(super) app: AppNo,
    pub(super) person: u64,
    /// Whole seconds.
    pub(super) at: Millis,
}

impl Paid {
    /// 32 bits of seconds, 27 of person, 3 of app below 16 of signature: below 10^24.
    fn number(self, keyed: &Keyed) -> u128 {
        let seconds = u64::try_from(self.at.0.div_euclid(1_000)).unwrap_or(0) & 0xffff_ffff;
        let body = u128::from(seconds)
            | (u128::from(self.person & 0x7ff_ffff) << 32)
            | (u128::from(self.app.0 & 7) << 59);
        let tag = keyed.tag(0, &body.to_be_bytes());
        body | (u128::from(u16::from_be_bytes([tag[0], tag[1]])) << 62)
    }

    pub(super) fn write(self, keyed: &Keyed) -> Payment {
        let number = self.number(keyed);
        Payment {
            transaction_id: format!("{TRANSACTION}{number:024}"),
            mch_id: merchant(keyed),
            out_trade_no: format!("order-{number:x}"),
        }
    }

    fn of_number(keyed: &Keyed, number: u128) -> Option<Self> {
        let bits = |from: u32, wide: u32| (number >> from) & ((1 << wide) - 1);
        let paid = Self {
            app: AppNo(u8::try_from(bits(59, 3)).ok()?),
            person: u64::try_from(bits(32, 27)).ok()?,
            at: Millis(i64::try_from(bits(0, 32)).ok()? * 1_000),
        };
        (paid.number(keyed) == number).then_some(paid)
    }

    /// The payment of a `transaction_id`.
    pub(super) fn of_transaction(keyed: &Keyed, id: &str) -> Option<Self> {
        Self::of_number(keyed, id.strip_prefix(TRANSACTION)?.parse().ok()?)
    }

    /// The payment of a merchant's order.
    pub(super) fn of_order(keyed: &Keyed, mch_id: &str, out_trade_no: &str) -> Option<Self> {
        let number = out_trade_no.strip_prefix("order-")?;
        let number = u128::from_str_radix(number, 16).ok()?;
        Self::of_number(keyed, number).filter(|_| mch_id == merchant(keyed))
    }
}

/// The company's merchant number.
fn merchant(keyed: &Keyed) -> String {
    let tag = keyed.tag(0, b"merchant");
    let digits = u32::from_be_bytes([tag[0], tag[1], tag[2], tag[3]]);
    format!("19{:08}", digits % 100_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::session::MAX_PEOPLE;

    #[test]
    fn a_payments_numbers_tell_who_paid() {
        let keyed = Keyed::new(1, "payment");
        for (app, person) in [(0, 0), (7, MAX_PEOPLE - 1)] {
            let paid = Paid {
                app: AppNo(app),
                person,
                at: Millis(4_000_000_000_000),
            };
            let p = paid.write(&keyed);
            assert_eq!((p.transaction_id.len(), p.mch_id.len()), (28, 10));
            assert!(p.out_trade_no.len() <= 32);
            assert_eq!(Paid::of_transaction(&keyed, &p.transaction_id), Some(paid));
            let order = |mch_id| Paid::of_order(&keyed, mch_id, &p.out_trade_no);
            assert_eq!(order(&p.mch_id), Some(paid));
            assert_eq!(order("1900000000"), None);
        }
        assert_eq!(Paid::of_transaction(&keyed, "4200"), None);
        assert_eq!(
            Paid::of_transaction(&keyed, "420000000000000000000000001"),
            None
        );
    }
}
