//! The options that every program of haarb takes.

use std::path::PathBuf;

use haarb_config::Config;
use haarb_model::NodeName;

/// Where a server of haarb finds its things. Every option has an environment variable, so
/// that several servers can live on one machine.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Configuration, the same file on every server
    #[arg(
        long,
        env = "HAARB_CONFIG",
        value_name = "FILE",
        global = true,
        default_value = "/etc/haarb/haarb.yaml"
    )]
    pub config: PathBuf,
    /// Name of this server in the configuration [default: the host name]
    #[arg(long, env = "HAARB_NODE", value_name = "NAME", global = true)]
    pub node: Option<String>,
    /// Sockets and what does not survive a boot
    #[arg(
        long,
        env = "HAARB_RUN_DIR",
        value_name = "DIR",
        global = true,
        default_value = "/run/haarb"
    )]
    pub run_dir: PathBuf,
    /// What should survive a restart; may start empty
    #[arg(
        long,
        env = "HAARB_STATE_DIR",
        value_name = "DIR",
        global = true,
        default_value = "/var/lib/haarb"
    )]
    pub state_dir: PathBuf,
    /// The cluster key (`haarb key generate FILE`)
    #[arg(
        long,
        env = "HAARB_KEY",
        value_name = "FILE",
        global = true,
        default_value = "/etc/haarb/cluster.key"
    )]
    pub key: PathBuf,
}

impl Options {
    /// The name of this server: `--node`, or the host name up to its first dot.
    ///
    /// # Errors
    /// One line: the name is not one that a server can have.
    pub fn node_name(&self) -> Result<NodeName, String> {
        let text = match &self.node {
            Some(name) => name.clone(),
            None => {
                let host = nix::unistd::gethostname()
                    .map_err(|e| format!("the host name cannot be read ({e}); give --node NAME"))?;
                let host = host.to_string_lossy().into_owned();
                host.split('.').next().unwrap_or_default().to_owned()
            }
        };
        NodeName::new(&text).map_err(|e| format!("--node: {e}"))
    }

    /// Reads the configuration and finds this server in it.
    ///
    /// # Errors
    /// One line per problem, each with what, where and what to do.
    pub fn load_config(&self) -> Result<(Config, NodeName), String> {
        let config = Config::load(&self.config).map_err(|errors| errors.to_string())?;
        let me = self.node_name()?;
        if config.node(&me).is_none() {
            let known: Vec<_> = config.nodes.iter().map(|node| node.name.as_str()).collect();
            return Err(format!(
                "{}: this server is called {me}, which is not among its nodes ({}); give --node NAME",
                self.config.display(),
                known.join(", ")
            ));
        }
        Ok((config, me))
    }
}
