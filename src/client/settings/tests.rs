//! Tests of the settings.

use std::{fs::Permissions, os::unix::fs::PermissionsExt};

use proptest::prelude::*;

use super::*;

/// A home folder with a file of contexts.
struct Home {
    folder: tempfile::TempDir,
    environment: Environment,
}

const CONTEXTS: &str = r#"
current = "prod"

[contexts.prod]
url = "https://broker.example.com"
token = "prod-track"
admin_token_file = "prod.admin"
caller = "ada"

[contexts.local]
url = "http://127.0.0.1:8080/v1/"
token_file = "~/track"
"#;

impl Home {
    fn new(contexts: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join(".config/sandbox-broker");
        fs::create_dir_all(&config).unwrap();
        let home = Self {
            environment: [(
                "HOME".to_owned(),
                folder.path().to_str().unwrap().to_owned(),
            )]
            .into(),
            folder,
        };
        home.write(".config/sandbox-broker/config.toml", contexts, 0o600);
        home
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let file = self.folder.path().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn load(&self) -> Result<Settings, SettingsError> {
        Settings::load(&Selection::default(), &self.environment)
    }

    fn context(&self, name: &str) -> Result<Settings, SettingsError> {
        let selection = Selection {
            context: Some(name.to_owned()),
            url: None,
        };
        Settings::load(&selection, &self.environment)
    }
}

fn track(settings: &Settings) -> Result<String, String> {
    let token = settings.token(TokenKind::Track);
    token
        .map(|token| token.expose().to_owned())
        .map_err(|error| error.to_string())
}

#[test]
fn current_context_is_used_unless_another_one_is_chosen() {
    let home = Home::new(CONTEXTS);
    home.write("track", "local-track\n", 0o600);
    home.write(".config/sandbox-broker/prod.admin", " prod-admin\n", 0o600);
    let settings = home.load().unwrap();
    assert_eq!(settings.url.as_str(), "https://broker.example.com/v1");
    assert_eq!(
        (settings.context(), settings.caller.as_deref()),
        (Some("prod"), Some("ada"))
    );
    assert_eq!(track(&settings).unwrap(), "prod-track");
    let admin = settings.token(TokenKind::Admin).unwrap();
    assert_eq!(admin.expose(), "prod-admin");
    for settings in [
        home.context("local").unwrap(),
        home.set("BROKER_CONTEXT", "local").load().unwrap(),
    ] {
        assert_eq!(settings.url.as_str(), "http://127.0.0.1:8080/v1");
        assert_eq!(
            (
                track(&settings).unwrap().as_str(),
                settings.caller.as_deref()
            ),
            ("local-track", None)
        );
        let error = settings.token(TokenKind::Admin).unwrap_err().to_string();
        assert!(
            error.contains("BROKER_ADMIN_TOKEN") && error.contains("\"local\""),
            "{error}"
        );
    }
}

#[test]
fn environment_has_precedence_over_the_context() {
    let home = Home::new(CONTEXTS)
        .set("BROKER_API_TOKEN", "of-environment")
        .set("BROKER_CALLER", "grace");
    let settings = home.load().unwrap();
    assert_eq!(track(&settings).unwrap(), "of-environment");
    assert_eq!(settings.caller.as_deref(), Some("grace"));
}

#[test]
fn tokens_of_a_context_are_not_sent_to_another_url() {
    let home = Home::new(CONTEXTS);
    let by_option = Selection {
        url: Some("https://other.example.com".to_owned()),
        context: None,
    };
    let by_option = Settings::load(&by_option, &home.environment).unwrap();
    let by_variable = Home::new(CONTEXTS).set("BROKER_API_URL", "https://other.example.com");
    for settings in [by_option, by_variable.load().unwrap()] {
        assert_eq!(settings.url.as_str(), "https://other.example.com/v1");
        assert_eq!(
            (settings.context(), settings.caller.as_deref()),
            (None, None)
        );
        assert_eq!(
            track(&settings).unwrap_err(),
            "no token: set BROKER_API_TOKEN"
        );
    }
    // A context that is named has its own URL.
    let settings = by_variable.context("prod").unwrap();
    assert_eq!(settings.url.as_str(), "https://broker.example.com/v1");
    let both = Selection {
        url: Some("https://other.example.com".to_owned()),
        context: Some("prod".to_owned()),
    };
    let error = Settings::load(&both, &home.environment).unwrap_err();
    assert!(error.to_string().contains("exclude each other"), "{error}");
}

#[test]
fn missing_settings_are_named_with_the_place_to_set_them() {
    let fault = |home: &Home| home.load().unwrap_err().to_string();
    let empty = Home::new("");
    assert!(
        fault(&empty).contains("names no current context"),
        "{}",
        fault(&empty)
    );
    fs::remove_file(
        empty
            .folder
            .path()
            .join(".config/sandbox-broker/config.toml"),
    )
    .unwrap();
    assert!(
        fault(&empty).contains("set BROKER_API_URL"),
        "{}",
        fault(&empty)
    );
    let named = empty.context("prod").unwrap_err().to_string();
    assert!(
        named.contains("cannot read") && named.contains("config.toml"),
        "{named}"
    );
    let homeless = Settings::load(&Selection::default(), &Environment::new()).unwrap_err();
    assert!(
        homeless.to_string().contains("~/.config/sandbox-broker"),
        "{homeless}"
    );
    let unknown = Home::new(CONTEXTS).set("BROKER_CONTEXT", "prd");
    assert!(fault(&unknown).contains(r#"has no context "prd"; it has ["local", "prod"]"#));
    let file = Home::new(CONTEXTS).context("local").unwrap();
    let fault = track(&file).unwrap_err();
    assert!(
        fault.contains("cannot read") && fault.contains("/track"),
        "{fault}"
    );
    let two = Home::new(
        "current = 'a'\n[contexts.a]\nurl = 'http://localhost'\ntoken = 'x'\ntoken_file = 'y'",
    );
    let fault = track(&two.load().unwrap()).unwrap_err();
    assert!(fault.contains("both token and token_file"), "{fault}");
}

#[test]
fn invalid_file_is_refused_with_its_line_and_without_its_tokens() {
    for (text, part) in [
        (
            "current = \"a\"\n[contexts.a]\nurl = 'http://localhost'\ntokn = \"hunter2\"",
            "line 4: unknown field `tokn`",
        ),
        (
            "[contexts.a]\nurl = 'http://localhost'\ntoken = 77177",
            "line 3: a token is a text in quotes",
        ),
        (
            "[contexts.a]\nurl = 'http://localhost'\nadmin_token = [77177]",
            "line 3: a token is a text in quotes",
        ),
        (
            "[contexts.a]\nurl = 'http://localhost'\ntoken = hunter2",
            "line 3:",
        ),
        ("[contexts.a]\ntoken = 'hunter2", "line 2:"),
        ("[contexts.a]\ntoken = 'hunter2'", "missing field `url`"),
        ("curent = \"a\"", "line 1: unknown field `curent`"),
    ] {
        let error = Home::new(text).load().unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
        assert!(
            !error.contains("hunter2") && !error.contains("77177"),
            "{error}"
        );
    }
}

#[test]
fn url_is_the_address_of_a_broker() {
    let url = |text: &str| {
        parse_url(text)
            .map(|url| url.to_string())
            .map_err(|error| error.to_string())
    };
    for (text, url_text) in [
        (
            "https://broker.example.com",
            "https://broker.example.com/v1",
        ),
        (" http://127.0.0.1:8080/ ", "http://127.0.0.1:8080/v1"),
        (
            "https://example.com/broker/v1/",
            "https://example.com/broker/v1",
        ),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1"),
    ] {
        assert_eq!(url(text).unwrap(), url_text);
    }
    for (text, reason) in [
        ("", "is invalid"),
        ("broker.example.com", "is invalid"),
        ("localhost:8080", "no address of HTTP"),
        ("ftp://broker.example.com", "no address of HTTP"),
        (
            "https://ada:hunter2@broker.example.com",
            "a user or a password",
        ),
        ("https://broker.example.com/v1?token=hunter2", "a query"),
        ("https://broker.example.com/v1#hunter2", "a fragment"),
    ] {
        let fault = url(text).unwrap_err();
        assert!(
            fault.contains(reason) && !fault.contains("hunter2"),
            "{text}: {fault}"
        );
    }
}

#[test]
fn settings_that_expose_a_token_cause_a_warning() {
    let warnings = |home: &Home, kind| {
        let settings = home.load().unwrap();
        settings.warnings(&settings.token(kind).unwrap())
    };
    let home = Home::new(CONTEXTS);
    let config = ".config/sandbox-broker/config.toml";
    home.write(".config/sandbox-broker/prod.admin", "prod-admin", 0o640);
    assert_eq!(warnings(&home, TokenKind::Track), [""; 0]);
    let of_file = warnings(&home, TokenKind::Admin);
    let file = &of_file[0];
    assert!(
        file.contains("chmod 600") && file.contains("prod.admin"),
        "{file}"
    );
    home.write(config, CONTEXTS, 0o644);
    assert!(warnings(&home, TokenKind::Track)[0].contains("config.toml"));
    // The file has no token that is used.
    let home = home.set("BROKER_API_TOKEN", "of-environment");
    assert_eq!(warnings(&home, TokenKind::Track), [""; 0]);
    for (url, is_safe) in [
        ("https://broker.example.com", true),
        ("http://localhost:8080", true),
        ("http://127.0.0.1", true),
        ("http://[::1]:8080", true),
        ("http://broker.example.com", false),
        ("http://10.0.0.7:8080", false),
        ("http://localhost.example.com", false),
    ] {
        let home = Home::new("")
            .set("BROKER_API_URL", url)
            .set("BROKER_API_TOKEN", "t");
        let warnings = warnings(&home, TokenKind::Track);
        assert_eq!(warnings.is_empty(), is_safe, "{url}: {warnings:?}");
        assert!(
            is_safe || warnings[0].contains("unencrypted"),
            "{warnings:?}"
        );
    }
}

#[test]
fn text_that_is_no_token_is_refused_without_showing_it() {
    for text in ["two words", "sécret", "hunter2\nhunter3", "   "] {
        let home = Home::new("")
            .set("BROKER_API_URL", "http://localhost")
            .set("BROKER_API_TOKEN", text);
        let error = track(&home.load().unwrap()).unwrap_err();
        assert!(error.starts_with("BROKER_API_TOKEN is no token"), "{error}");
        assert!(!error.contains(text), "{error}");
    }
}

proptest! {
    #[test]
    fn any_file_is_read_or_refused(text in prop_oneof![crate::arbitrary::text(), "[a-z\\[\\].= \"'\n]{0,60}"]) {
        let _ = Home::new(&text).load();
    }

    #[test]
    fn any_url_is_read_or_refused(text in prop_oneof![crate::arbitrary::text(), "https?://[a-z0-9.:@/?#]{0,20}"]) {
        if let Ok(url) = parse_url(&text) {
            prop_assert!(url.path().len() > 1 && url.has_host());
        }
    }
}
