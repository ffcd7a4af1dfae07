//! The default of the caller.

use crate::{
    client::{ClientError, Settings},
    config::Variables,
};

/// Returns the caller: that of the option, of the settings, of an Instruqt host, or else the user of this machine.
///
/// # Errors
/// [`ClientError::Usage`] if the user is unknown.
pub(super) fn find(
    option: Option<&str>,
    settings: &Settings,
    environment: &Variables,
) -> Result<String, ClientError> {
    let variable = |name: &str| Some(environment.get(name)?.as_str());
    let given = [
        option,
        settings.caller.as_deref(),
        variable("INSTRUQT_PARTICIPANT_ID"),
    ];
    if let Some(caller) = given.into_iter().flatten().find(|text| !text.is_empty()) {
        return Ok(caller.to_owned());
    }
    let user = [variable("USER"), variable("LOGNAME")];
    let user = user.into_iter().flatten().find(|user| !user.is_empty());
    let host = rustix::system::uname();
    user.map(|user| format!("{user}@{}", host.nodename().to_string_lossy()))
        .ok_or_else(|| {
            ClientError::Usage(
                "no caller: USER is not set either; use --caller, or set BROKER_CALLER".to_owned(),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Selection;

    #[test]
    fn caller_is_the_first_that_is_set() {
        let mut environment: Variables = [
            ("BROKER_API_URL", "http://127.0.0.1:8080"),
            ("USER", "ada"),
            ("INSTRUQT_PARTICIPANT_ID", "play-1"),
            ("BROKER_CALLER", "class"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let find = |option, environment: &Variables| {
            let settings = Settings::load(&Selection::default(), environment).unwrap();
            super::find(option, &settings, environment)
        };
        assert_eq!(find(Some("me"), &environment).unwrap(), "me");
        assert_eq!(find(None, &environment).unwrap(), "class");
        environment.remove("BROKER_CALLER");
        assert_eq!(find(Some(""), &environment).unwrap(), "play-1");
        // As Instruqt sets it under some hot starts.
        environment.insert("INSTRUQT_PARTICIPANT_ID".into(), String::new());
        let caller = find(None, &environment).unwrap();
        let host = caller.strip_prefix("ada@").unwrap();
        assert!(!host.is_empty(), "{caller}");
        environment.remove("USER");
        let error = find(None, &environment).unwrap_err();
        assert!(error.to_string().contains("--caller"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}
