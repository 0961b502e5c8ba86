//! Who is named on the command line is not named again by an error: errors end up in logs.

/// Separates an account from what is typed beside it, as in `--app=A:B` or `--accounts A:B,C:D`.
const AROUND: [char; 6] = ['=', ',', '(', '\'', '"', '`'];

/// The text without the openids of accounts (`APPID:OPENID`) that stand in it.
pub(super) fn masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c: char| c.is_whitespace() || AROUND.contains(&c)) {
        match openid_in(piece) {
            Some((app, rest)) => {
                masked.push_str(app);
                masked.push_str(":…");
                masked.push_str(rest);
            }
            None => masked.push_str(piece),
        }
    }
    masked
}

/// What stands before and behind the openid, if the piece is an account.
fn openid_in(piece: &str) -> Option<(&str, &str)> {
    let (app, named) = piece.split_once(':')?;
    let is_app = app.len() > 2 && app.starts_with("wx") && app.chars().all(char::is_alphanumeric);
    let openid = named
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
        .unwrap_or(named.len());
    (is_app && openid > 0).then(|| (app, &named[openid..]))
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn openids_are_left_out_and_all_else_stays() {
        let said = "error: unexpected argument 'wx0123456789abcdef:oAb-c_D' found; --app=wx1a:oX, wx2b:oY (wx3c:oZ).";
        let left = "error: unexpected argument 'wx0123456789abcdef:…' found; --app=wx1a:…, wx2b:… (wx3c:…).";
        assert_eq!(masked(said), left);
        for said in [
            "error: invalid value '0:5-3' for '--offsets'",
            "wx0123456789abcdef: the app is not configured",
            "kafka://127.0.0.1:9092 does not answer at 2026-11-30T10:00:00Z",
            "line 5: openid is a placeholder",
            "unilink: --app is no appid: it has characters other than…",
        ] {
            assert_eq!(masked(said), said);
        }
    }
}
