//! The fields of a message, and how they are written (`docs/wechat.md` §11).

use super::super::crypto::Keyed;
use super::super::world::{AppNo, World};
use super::{Channel, Format, Names, News};
use crate::model::{AppKind, Millis};
use serde_json::{Map, Value};

/// A field, in the order of writing.
#[derive(Clone)]
pub(super) struct Field {
    name: String,
    value: Value,
}

impl Field {
    pub(super) fn text(name: &str, value: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            value: Value::String(value.into()),
        }
    }
}

/// The fields of a message, `ToUserName` first.
pub(super) fn fields(
    world: &World,
    (app, person): (AppNo, u64),
    news: &News,
    channel: &Channel,
    at: Millis,
) -> Vec<Field> {
    // Whoever causes a message sends it; authorization events come from WeChat's own pusher.
    let from = match news.follows() {
        Some(_) => world.openid_text(person, app),
        None => world.pusher(app),
    };
    let mut fields = vec![
        Field::text("ToUserName", world.account_name(app)),
        Field::text("FromUserName", from),
        Field {
            name: "CreateTime".to_owned(),
            value: at.0.div_euclid(1_000).into(),
        },
        Field::text("MsgType", "event"),
        Field::text("Event", event(news)),
    ];
    match news {
        News::Subscribe { scene: Some(scene) } => {
            fields.push(Field::text("EventKey", format!("qrscene_{scene}")));
            fields.push(Field::text("Ticket", ticket(world, scene)));
        }
        News::Scan { scene } => {
            fields.push(Field::text("EventKey", scene.as_str()));
            fields.push(Field::text("Ticket", ticket(world, scene)));
        }
        News::Subscribe { scene: None } | News::Unsubscribe => {
            fields.push(Field::text("EventKey", ""));
        }
        News::UserAuthorizationCancellation => {
            fields.extend(person_fields(world, (app, person), channel, None));
        }
        News::UserAuthorizationRevoke { info } | News::UserInfoModified { info } => {
            fields.extend(person_fields(world, (app, person), channel, Some(info)));
        }
    }
    fields
}

fn event(news: &News) -> &'static str {
    match news {
        News::Subscribe { .. } => "subscribe",
        News::Scan { .. } => "SCAN",
        News::Unsubscribe => "unsubscribe",
        News::UserAuthorizationCancellation => "user_authorization_cancellation",
        News::UserAuthorizationRevoke { .. } => "user_authorization_revoke",
        News::UserInfoModified { .. } => "user_info_modified",
    }
}

/// What names a QR code.
fn ticket(world: &World, scene: &str) -> String {
    hex::encode(Keyed::new(world.seed(), "ticket").tag(0, scene.as_bytes()))
}

/// The fields of an authorization event.
fn person_fields(
    world: &World,
    (app, person): (AppNo, u64),
    channel: &Channel,
    info: Option<&String>,
) -> Vec<Field> {
    let name = |name: &str| match channel.names {
        Names::Documented | Names::NoOpenid => name.to_owned(),
        Names::Lower => name.to_lowercase(),
        Names::Spaced => format!(" {name}"),
    };
    let mut fields = Vec::new();
    if channel.names != Names::NoOpenid {
        let openid = world.openid_text(person, app);
        fields.push(Field::text(&name("OpenID"), openid));
    }
    let sim_app = world.app(app);
    fields.push(Field::text(
        &name("AppID"),
        sim_app.map_or("", |a| a.id.as_str()),
    ));
    if let Some(unionid) = world.unionid_text(person, app).filter(|_| channel.unionid) {
        fields.push(Field::text(&name("UnionID"), unionid));
    }
    if let Some(info) = info {
        fields.push(Field::text("RevokeInfo", info.as_str()));
    }
    if sim_app.is_some_and(|a| a.kind == AppKind::MiniProgram) {
        fields.push(Field::text("PluginID", ""));
        fields.push(Field::text("OpenPID", ""));
    }
    fields
}

/// XML with CDATA, or JSON. XML has no names with spaces: there they are as documented.
pub(super) fn write(format: Format, fields: &[Field]) -> Vec<u8> {
    if format == Format::Json {
        let fields = fields.iter().map(|f| (f.name.clone(), f.value.clone()));
        return Value::Object(fields.collect::<Map<_, _>>())
            .to_string()
            .into_bytes();
    }
    let mut xml = String::from("<xml>");
    for Field { name, value } in fields {
        let name = name.trim();
        let value = match value {
            Value::String(text) => {
                format!("<![CDATA[{}]]>", text.replace("]]>", "]]]]><![CDATA[>"))
            }
            other => other.to_string(),
        };
        xml.push_str(&format!("<{name}>{value}</{name}>\n"));
    }
    xml.push_str("</xml>");
    xml.into_bytes()
}
