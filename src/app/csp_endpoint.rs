//! The CSP that the broker calls: the simulator in this process, or the configured one.

#[cfg(feature = "simulator")]
use std::{net::SocketAddr, time::Duration};

use secrecy::SecretString;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::StartError;
#[cfg(feature = "simulator")]
use crate::csp::simulator::{Settings, Simulator, SimulatorPort};
use crate::{
    config::Config,
    csp::{
        CspClient, CspConfig, CspError,
        niosxaas::NiosxaasClient,
        session::{CspUser, Purpose, SessionClient},
    },
    secrets::CredentialTargets,
    telemetry::metrics::Metrics,
};
#[cfg(feature = "simulator")]
use crate::{csp::CspMode, store::Engine};

/// The addresses and the token of CSP.
pub(super) struct CspEndpoint {
    base_url: String,
    /// Replaces the configured base URL of NIOSXaaS.
    niosxaas_base_url: Option<String>,
    pub(super) token: SecretString,
    pub(super) user: CspUser,
}

impl CspEndpoint {
    #[cfg_attr(
        not(feature = "simulator"),
        expect(
            clippy::unused_async,
            unused_variables,
            reason = "only the simulator is started asynchronously"
        )
    )]
    pub(super) async fn open(
        config: &Config,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, StartError> {
        #[cfg(feature = "simulator")]
        if config.csp.mode == CspMode::Simulated {
            return Self::simulate(config, tasks, stop)
                .await
                .map_err(StartError::Simulator);
        }
        Ok(Self {
            base_url: config.csp.base_url.clone(),
            niosxaas_base_url: None,
            // `Config` refuses live mode without a token.
            token: config.csp.token.clone().unwrap_or_default(),
            user: config.csp_user.clone(),
        })
    }

    /// Returns the CSP client.
    pub(super) fn client(
        &self,
        config: &Config,
        targets: &CredentialTargets,
        metrics: &Metrics,
    ) -> Result<CspClient, CspError> {
        let token = targets.csp_token.clone();
        CspClient::new(&config.csp, &self.base_url, token, metrics.clone())
    }

    /// Returns the client of the sessions in which accounts are checked.
    pub(super) fn check_sessions(
        &self,
        config: &Config,
        targets: &CredentialTargets,
        metrics: &Metrics,
    ) -> Result<SessionClient, CspError> {
        let CspConfig {
            connect_timeout,
            read_timeout,
            ..
        } = config.csp;
        SessionClient::new(
            Purpose::Check,
            &self.base_url,
            connect_timeout,
            connect_timeout + read_timeout,
            targets.csp_user.clone(),
            metrics.clone(),
        )
    }

    /// Returns the NIOSXaaS client; `None` if services are not to be deleted.
    pub(super) fn niosxaas(
        &self,
        config: &Config,
        targets: &CredentialTargets,
        metrics: &Metrics,
    ) -> Result<Option<NiosxaasClient>, CspError> {
        let Some(mut niosxaas) = config.niosxaas.clone() else {
            return Ok(None);
        };
        if let Some(base_url) = &self.niosxaas_base_url {
            niosxaas.base_url.clone_from(base_url);
        }
        let (user, connect) = (targets.csp_user.clone(), config.csp.connect_timeout);
        NiosxaasClient::new(niosxaas, user, connect, metrics.clone()).map(Some)
    }

    #[cfg(feature = "simulator")]
    async fn simulate(
        config: &Config,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> std::io::Result<Self> {
        let accounts = config.csp.simulated_accounts as u64;
        // With the embedded engine the pool survives a restart, so the accounts have to survive it too.
        let simulator = if config.store.engine == Engine::Embedded {
            Simulator::open(
                &config.store.data_dir.join("csp-simulator.json"),
                accounts,
                SIMULATOR_SEED,
            )?
        } else {
            Simulator::new(accounts, SIMULATOR_SEED)
        };
        simulator.configure(Settings {
            listing_delay: LISTING_DELAY,
            usable_delay: USABLE_DELAY,
            ..Settings::default()
        });
        let port = SimulatorPort::bind(SocketAddr::from(([127, 0, 0, 1], 0)), None).await?;
        let endpoint = Self {
            base_url: port.csp_base_url(),
            // The simulator serves the API of NIOSXaaS as well.
            niosxaas_base_url: Some(port.url().to_owned()),
            token: "simulated".into(),
            user: if config.csp_user.email.is_empty() {
                CspUser {
                    email: "simulated".to_owned(),
                    password: "simulated".into(),
                }
            } else {
                config.csp_user.clone()
            },
        };
        tasks.spawn(simulator.serve(port, stop.clone()));
        Ok(endpoint)
    }
}

/// The seed of the built-in simulator: every laptop has the same accounts.
#[cfg(feature = "simulator")]
const SIMULATOR_SEED: u64 = 1;

/// How long after its creation by refill the built-in simulator lists an account: long enough to be seen on the
/// dashboard.
#[cfg(feature = "simulator")]
const LISTING_DELAY: Duration = Duration::from_secs(10);

/// How long after its creation by refill the built-in simulator makes an account usable.
#[cfg(feature = "simulator")]
const USABLE_DELAY: Duration = Duration::from_secs(30);
