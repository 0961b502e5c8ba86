//! Who gives an operator's command, and why: for the audit, and for what is signed in their name.

use super::Failure;
use crate::wire::operator::check_words;
use clap::Args;

/// Where an operator's name is looked for if none is given.
const NAMES: [&str; 2] = ["USER", "LOGNAME"];

/// Who and why, on the command line.
#[derive(Debug, Clone, Args)]
pub struct OperatorArgs {
    /// Who does this, for the audit [default: $USER, else $LOGNAME]
    #[arg(long, value_name = "NAME")]
    pub author: Option<String>,
    /// Why, for the audit
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub note: String,
}

/// Who and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Who.
    pub author: String,
    /// Why.
    pub note: String,
}

impl OperatorArgs {
    /// Who it is, as given or as the environment says.
    ///
    /// # Errors
    /// Wrong use: nobody is named, or what names them is no name.
    pub fn operator(&self) -> Result<Operator, Failure> {
        self.operator_in(|name| std::env::var(name).ok())
    }

    fn operator_in(&self, of: impl Fn(&str) -> Option<String>) -> Result<Operator, Failure> {
        let known = NAMES.iter().filter_map(|name| of(name));
        let known = known.map(|name| name.trim().to_owned());
        let author = (self.author.clone()).or_else(|| known.into_iter().find(|n| !n.is_empty()));
        let Some(author) = author else {
            let why = "who does this? Neither $USER nor $LOGNAME is set: add --author NAME";
            return Err(Failure::Usage(why.to_owned()));
        };
        let note = self.note.clone();
        check_words(&author, &note)
            .map_err(|wrong| Failure::Usage(format!("--{} {}", wrong.field, wrong.problem)))?;
        Ok(Operator { author, note })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(author: Option<&str>, note: &str, set: &[(&str, &str)]) -> Result<Operator, Failure> {
        let args = OperatorArgs {
            author: author.map(str::to_owned),
            note: note.to_owned(),
        };
        let set: Vec<_> = set.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
        args.operator_in(|name| {
            let found = set.iter().find(|(n, _)| n == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_name_is_that_of_the_command_line_or_of_the_environment() {
        let name = |author, set: &[_]| asked(author, "", set).map(|o| o.author).ok();
        let both = [("USER", "ada"), ("LOGNAME", "root")];
        assert_eq!(name(Some("eve"), &both), Some("eve".to_owned()));
        assert_eq!(name(None, &both), Some("ada".to_owned()));
        let second = [("USER", " "), ("LOGNAME", "root")];
        assert_eq!(name(None, &second), Some("root".to_owned()));
        assert_eq!(name(None, &[]), None);
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_remedy() {
        let why = |author, note| match asked(author, note, &[]) {
            Err(Failure::Usage(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(why(None, "").contains("--author"));
        assert!(why(Some("a\nb"), "").contains("--author"));
        assert!(why(Some(" "), "").contains("--author"));
        assert!(why(Some("ada"), &"x".repeat(2_000)).contains("--note"));
    }
}
