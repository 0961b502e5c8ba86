//! A login event as a gateway posts it: the wire names of the login record, nothing more.

use serde::Serialize;
use serde_json::Value;

/// One event. Fields that are absent are not written.
#[derive(Clone, Default, Serialize)]
pub struct Event {
    /// The gateway's id for it.
    pub id: String,
    /// RFC 3339.
    pub occurred_at: String,
    /// The app.
    pub appid: String,
    /// A code still to be exchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Who, if the gateway exchanged the code itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openid: Option<String>,
    /// A unionid in plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unionid: Option<String>,
    /// The session key of the gateway's exchange.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_key: Option<String>,
    /// Data of `wx.getUserInfo`.
    #[serde(rename = "encryptedData", skip_serializing_if = "Option::is_none")]
    pub encrypted_data: Option<String>,
    /// Its iv.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iv: Option<String>,
    /// The part that is not encrypted.
    #[serde(rename = "rawData", skip_serializing_if = "Option::is_none")]
    pub raw_data: Option<String>,
    /// The signature over it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// The user token of the gateway's OAuth exchange.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// What the user agreed to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<&'static str>,
    /// WeChat Pay's number of a payment in the mini program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction_id: Option<String>,
    /// The merchant of a payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mch_id: Option<String>,
    /// The merchant's number of a payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_trade_no: Option<String>,
    /// 1 for a snapshot user, as WeChat writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_snapshotuser: Option<u8>,
    /// The gateway's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<&'static str>,
    /// The company's own id of the person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// Carried through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Value>,
    /// An intake refuses it (422): its unionid is a placeholder. From a topic it would still show
    /// its account. Not on the wire.
    #[serde(skip)]
    pub refused_at_intake: bool,
}

impl Event {
    /// The topic key: `appid:openid`, or the event's id while only a code is known.
    #[must_use]
    pub fn key(&self) -> String {
        match &self.openid {
            Some(openid) => format!("{}:{openid}", self.appid),
            None => self.id.clone(),
        }
    }

    /// The event as JSON.
    ///
    /// # Errors
    /// None in practice: every field can be written.
    pub fn json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }
}
