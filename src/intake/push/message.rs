//! Reads a push's body, XML or JSON, for the few fields that matter. Nothing else of it is kept.
//!
//! Names vary from page to page of WeChat's documentation (`OpenID`, `openid`, `" OpenID"`,
//! `docs/wechat.md` §11), so they are read without regard to case and spaces around. XML entities
//! are those that XML itself knows: a document type is refused, so none can be declared.

use quick_xml::Reader;
use quick_xml::events::Event;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use std::fmt;

/// Deepest element: WeChat's own go down to four.
const MAX_DEPTH: usize = 8;

/// Why a body is not read. Never repeats any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum MessageFault {
    /// Neither XML nor JSON.
    #[error("the body is neither XML nor a JSON object, in UTF-8")]
    Neither,
    /// A field stands there twice, and says different things.
    #[error("the body has a field twice, with different values")]
    Twice,
    /// Nested too deeply, or with a document type.
    #[error("the body has what no message of WeChat has: a document type, or too deep elements")]
    Strange,
}

/// The fields that matter; what is empty is absent.
#[derive(Default, Clone, PartialEq, Eq)]
pub(super) struct Fields {
    /// The encrypted message.
    pub encrypt: Option<String>,
    /// Who sent it: the person, or WeChat's own pusher.
    pub from: Option<String>,
    /// Seconds since 1970.
    pub created: Option<String>,
    /// `event`, `text`, …
    pub kind: Option<String>,
    /// Which event.
    pub event: Option<String>,
    /// What the event is about, such as the value of a QR code.
    pub event_key: Option<String>,
    /// Whom the event is about.
    pub openid: Option<String>,
    /// The same person in the platform.
    pub unionid: Option<String>,
    /// The app.
    pub app: Option<String>,
}

/// Shows which fields are there, and none of them.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fields")
            .field("encrypt", &self.encrypt.is_some())
            .field("kind", &self.kind)
            .field("event", &self.event)
            .finish_non_exhaustive()
    }
}

impl Fields {
    /// Reads a body.
    ///
    /// # Errors
    /// [`MessageFault`].
    pub(super) fn read(body: &[u8]) -> Result<Self, MessageFault> {
        let text = std::str::from_utf8(body).map_err(|_| MessageFault::Neither)?;
        let text = text.trim_start_matches('\u{feff}').trim_ascii();
        match text.as_bytes().first() {
            Some(b'<') => xml(text),
            Some(b'{') => json(text),
            _ => Err(MessageFault::Neither),
        }
    }

    fn slot(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name.trim().to_ascii_lowercase().as_str() {
            "encrypt" => &mut self.encrypt,
            "fromusername" => &mut self.from,
            "createtime" => &mut self.created,
            "msgtype" => &mut self.kind,
            "event" => &mut self.event,
            "eventkey" => &mut self.event_key,
            "openid" => &mut self.openid,
            "unionid" => &mut self.unionid,
            "appid" => &mut self.app,
            _ => return None,
        })
    }

    fn put(&mut self, name: &str, value: &str) -> Result<(), MessageFault> {
        let value = value.trim();
        let Some(slot) = self.slot(name).filter(|_| !value.is_empty()) else {
            return Ok(());
        };
        match slot {
            Some(known) if known != value => Err(MessageFault::Twice),
            _ => {
                *slot = Some(value.to_owned());
                Ok(())
            }
        }
    }
}

/// One root; its children's own text. What lies deeper belongs to none of our fields.
fn xml(text: &str) -> Result<Fields, MessageFault> {
    let mut fields = Fields::default();
    let mut reader = Reader::from_str(text);
    let mut open: Vec<String> = Vec::new();
    let mut content = String::new();
    let mut nested = false;
    let mut roots = 0;
    loop {
        match reader.read_event().map_err(|_| MessageFault::Neither)? {
            Event::Start(tag) => {
                roots += usize::from(open.is_empty());
                if open.len() == MAX_DEPTH {
                    return Err(MessageFault::Strange);
                }
                nested = open.len() > 1;
                content.clear();
                open.push(tag.name().as_ref().to_owned());
            }
            Event::End(_) => {
                let name = open.pop().ok_or(MessageFault::Neither)?;
                if open.len() == 1 && !nested {
                    fields.put(&name, &content)?;
                }
                nested = open.len() > 1;
            }
            Event::Text(part) => content.push_str(&part.xml10_content()),
            Event::CData(part) => content.push_str(&part.xml10_content()),
            Event::GeneralRef(part) => content.push(character(&part)?),
            Event::DocType(_) => return Err(MessageFault::Strange),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    if roots != 1 || !open.is_empty() {
        return Err(MessageFault::Neither);
    }
    Ok(fields)
}

/// `&#27491;`, `&amp;` and its four likes.
fn character(part: &quick_xml::events::BytesRef<'_>) -> Result<char, MessageFault> {
    if let Some(c) = part.resolve_char_ref().map_err(|_| MessageFault::Neither)? {
        return Ok(c);
    }
    match &*part.xml10_content() {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        _ => Err(MessageFault::Strange),
    }
}

fn json(text: &str) -> Result<Fields, MessageFault> {
    let read: Result<Read, _> = serde_json::from_str(text);
    read.map_err(|_| MessageFault::Neither)?.0
}

/// What a JSON object says, or that it contradicts itself.
struct Read(Result<Fields, MessageFault>);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(ReadVisitor).map(Self)
    }
}

struct ReadVisitor;

impl<'de> Visitor<'de> for ReadVisitor {
    type Value = Result<Fields, MessageFault>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        let mut outcome = Ok(());
        while let Some(name) = map.next_key::<String>()? {
            if fields.slot(&name).is_none() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let put = match map.next_value()? {
                Value::String(text) => fields.put(&name, &text),
                Value::Number(number) => fields.put(&name, &number.to_string()),
                _ => Ok(()),
            };
            outcome = outcome.and(put);
        }
        Ok(outcome.map(|()| fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Fields, MessageFault> {
        Fields::read(text.as_bytes())
    }

    fn of(text: &str, of: impl Fn(Fields) -> Option<String>) -> Option<String> {
        of(read(text).unwrap_or_else(|fault| panic!("{text}: {fault}")))
    }

    #[test]
    fn xml_as_wechat_documents_it() {
        let text = "<xml>\n<ToUserName><![CDATA[gh_1]]></ToUserName>\n\
            <FromUserName><![CDATA[oA]]></FromUserName>\n<CreateTime>1700000000</CreateTime>\n\
            <MsgType><![CDATA[event]]></MsgType>\n<Event><![CDATA[subscribe]]></Event>\n\
            <EventKey><![CDATA[qrscene_1 & <2>]]></EventKey>\n<Ticket><![CDATA[T]]></Ticket>\n</xml>";
        let fields = read(text).expect("reads");
        let want = Fields {
            from: Some("oA".into()),
            created: Some("1700000000".into()),
            kind: Some("event".into()),
            event: Some("subscribe".into()),
            event_key: Some("qrscene_1 & <2>".into()),
            ..Fields::default()
        };
        assert!(fields == want);
        let declared =
            format!("\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\"?> {text}\n<!-- . -->");
        assert!(read(&declared).expect("reads") == want);
    }

    #[test]
    fn json_as_wechat_documents_it() {
        let text = r#"{"ToUserName": "gh_1", "FromUserName": "oPusher", "CreateTime": 1626857200,
            "MsgType": "event", "Event": "user_authorization_revoke", " OpenID": "oA ",
            "AppID": "wx1", "RevokeInfo": "1", "PluginID": "", "nested": {"OpenID": ["oB"]}}"#;
        let fields = read(text).expect("reads");
        let want = Fields {
            from: Some("oPusher".into()),
            created: Some("1626857200".into()),
            kind: Some("event".into()),
            event: Some("user_authorization_revoke".into()),
            openid: Some("oA".into()),
            app: Some("wx1".into()),
            ..Fields::default()
        };
        assert!(fields == want);
    }

    #[test]
    fn names_vary() {
        for name in ["OpenID", "openid", "OPENID", " OpenID", "OpenId "] {
            let text = format!(r#"{{"{name}": "oA"}}"#);
            assert_eq!(of(&text, |f| f.openid).as_deref(), Some("oA"), "{name}");
        }
        for name in ["OpenID", "openid"] {
            let text = format!("<xml><{name}>oA</{name}></xml>");
            assert_eq!(of(&text, |f| f.openid).as_deref(), Some("oA"), "{name}");
        }
        assert_eq!(
            of(r#"{"OpenID": "oA", "openid": "oA"}"#, |f| f.openid).as_deref(),
            Some("oA")
        );
        for twice in [
            r#"{"OpenID": "oA", "openid": "oB"}"#,
            r#"{"OpenID": "oA", "OpenID": "oB"}"#,
            "<xml><OpenID>oA</OpenID><openid>oB</openid></xml>",
            "<xml><Encrypt>AA</Encrypt><Encrypt>BB</Encrypt></xml>",
        ] {
            assert_eq!(read(twice).expect_err(twice), MessageFault::Twice);
        }
    }

    #[test]
    fn what_is_empty_or_nested_is_absent() {
        for text in [
            "<xml><OpenID></OpenID></xml>",
            "<xml><OpenID/></xml>",
            "<xml><OpenID> <![CDATA[ ]]></OpenID></xml>",
            "<xml><Info><OpenID>oA</OpenID></Info></xml>",
            "<xml><OpenID><Inner>oA</Inner></OpenID></xml>",
            "<xml><OpenID>o<b>A</b></OpenID></xml>",
            r#"{"OpenID": ""}"#,
            r#"{"OpenID": null}"#,
            r#"{"OpenID": ["oA"]}"#,
            r#"{"Info": {"OpenID": "oA"}}"#,
        ] {
            assert_eq!(of(text, |f| f.openid), None, "{text}");
        }
        // What follows a nested element is read again.
        let text = "<xml><Info><a><b>1</b></a></Info><OpenID>oA</OpenID></xml>";
        assert_eq!(of(text, |f| f.openid).as_deref(), Some("oA"));
    }

    #[test]
    fn entities_are_xmls_own() {
        let text = "<xml><EventKey>a&amp;b&#x2d;&#99;&lt;&gt;&quot;&apos;</EventKey></xml>";
        assert_eq!(of(text, |f| f.event_key).as_deref(), Some("a&b-c<>\"'"));
        for text in [
            "<!DOCTYPE xml [<!ENTITY e \"oA\">]><xml><OpenID>&e;</OpenID></xml>",
            "<!DOCTYPE xml SYSTEM \"file:///etc/passwd\"><xml></xml>",
            "<xml><OpenID>&e;</OpenID></xml>",
        ] {
            assert_eq!(read(text).expect_err(text), MessageFault::Strange);
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for text in [
            "",
            " ",
            "oA",
            "[]",
            "[{}]",
            "<",
            "<xml>",
            "</xml>",
            "<xml></xnl>",
            "<xml></xml><xml></xml>",
            "<xml><OpenID>oA</xml>",
            "<!-- -->",
            "{",
            "{}x",
            r#"{"OpenID": "oA""#,
            "<xml><a>&#xd800;</a></xml>",
        ] {
            assert_eq!(read(text).expect_err(text), MessageFault::Neither, "{text}");
        }
        assert_eq!(
            Fields::read(b"<xml>\xff</xml>").expect_err("bytes"),
            MessageFault::Neither
        );
        let deep = |n: usize| format!("{}{}", "<a>".repeat(n), "</a>".repeat(n));
        assert!(read(&deep(MAX_DEPTH)).is_ok());
        assert_eq!(
            read(&deep(MAX_DEPTH + 1)).expect_err("deep"),
            MessageFault::Strange
        );
        assert!(read(&deep(100_000)).is_err());
        let deep = |name: &str| {
            let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
            format!("{{\"{name}\":{open}{close}}}")
        };
        assert!(read(&deep("Menu")).is_ok(), "skipped without recursion");
        assert_eq!(
            read(&deep("OpenID")).expect_err("deep"),
            MessageFault::Neither
        );
    }
}
