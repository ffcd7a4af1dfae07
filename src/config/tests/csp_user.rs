//! The user that deletes NIOSXaaS services and checks accounts.

use secrecy::ExposeSecret;

use super::{faulty, production_with};
use crate::config::{Config, Variables};

const MISSING: [&str; 2] = ["NIOSXAAS_EMAIL", "NIOSXAAS_PASSWORD"];

#[test]
fn user_is_required_where_services_are_deleted_or_accounts_checked() {
    assert!(production_with(&[]).is_empty());
    for needed in [
        ("NIOSXAAS_ENABLED", "true"),
        ("CHECK_MODE", "new"),
        ("CHECK_MODE", "all"),
    ] {
        assert_eq!(production_with(&[needed]), MISSING, "{needed:?}");
        let email = ("NIOSXAAS_EMAIL", "broker@example.com");
        assert_eq!(production_with(&[needed, email]), ["NIOSXAAS_PASSWORD"]);
        let password = ("NIOSXAAS_PASSWORD", "secret");
        assert!(production_with(&[needed, email, password]).is_empty());
        let secret = ("NIOSXAAS_SECRET_ID", "broker/user");
        assert!(production_with(&[needed, secret]).is_empty());
    }
}

#[test]
fn simulated_csp_needs_no_user_for_checks() {
    assert!(faulty(&[("CHECK_MODE", "new")]).is_empty());
    assert_eq!(faulty(&[("NIOSXAAS_ENABLED", "true")]), MISSING);
}

#[test]
fn fault_of_a_missing_user_names_the_setting_that_needs_it() {
    for (setting, named) in [
        (("CHECK_MODE", "all"), "CHECK_MODE=new or all"),
        (("NIOSXAAS_ENABLED", "true"), "NIOSXAAS_ENABLED=true"),
    ] {
        let mut variables = super::variables(&super::PRODUCTION);
        variables.extend(super::variables(&[setting]));
        let error = Config::from_variables(&variables).unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn user_of_the_environment_is_read() {
    let config = Config::from_variables(&Variables::new()).unwrap();
    assert!(config.csp_user.email.is_empty());
    let variables = super::variables(&[
        ("NIOSXAAS_EMAIL", "broker@example.com"),
        ("NIOSXAAS_PASSWORD", "secret"),
    ]);
    let user = Config::from_variables(&variables).unwrap().csp_user;
    assert_eq!(
        (user.email.as_str(), user.password.expose_secret()),
        ("broker@example.com", "secret")
    );
}
