//! Two servers, alpha and beta, with two networks on loopback addresses.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use haarb_model::{
    DirectoryReport, DirectoryState, Epoch, NetworkName, NodeName, ReserveDuties, ReserveName,
    Role, ServiceDuty, SyncDuty, SyncReserve, VipDuty,
};
use haarb_syncer::{ChannelKey, Replicated, Settings, Syncer};

use crate::relay::Relay;

/// Nothing here takes long; a loaded machine may stall.
const WITHIN: Duration = Duration::from_secs(30);

pub(crate) struct Server {
    /// Removed with the server.
    _home: tempfile::TempDir,
    settings: Settings,
    syncer: Option<Syncer>,
}

pub(crate) struct Pair {
    pub(crate) alpha: Server,
    pub(crate) beta: Server,
    relays: Vec<Relay>,
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

pub(crate) fn source() -> SyncDuty {
    SyncDuty::Source
}

pub(crate) fn sink_of(node: &str) -> SyncDuty {
    SyncDuty::Sink(name(node))
}

pub(crate) fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
}

/// The content of a file; empty while it is not there.
pub(crate) fn read(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap_or_default()
}

impl Server {
    fn new(me: &str, key: u8, addresses: &BTreeMap<NodeName, Vec<SocketAddr>>) -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("data")).unwrap();
        let replicated = Replicated {
            name: b"/srv/data".to_vec(),
            at: home.path().join("data"),
            exclude: Default::default(),
            deletion_limit: Default::default(),
            scrub_rate: Default::default(),
        };
        let settings = Settings {
            cluster: "test".into(),
            me: name(me),
            key: ChannelKey::new([key; 32]),
            networks: ["red", "blue"].map(|n| NetworkName::new(n).unwrap()).into(),
            addresses: addresses.clone(),
            reserves: vec![(ReserveName::new("reserve").unwrap(), vec![replicated])],
            state_dir: home.path().join("state"),
            look_around: Duration::from_millis(300),
            patience: Duration::from_secs(1),
        };
        let mut server = Self {
            _home: home,
            settings,
            syncer: None,
        };
        server.restart();
        server
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.settings.reserves[0].1[0].at
    }

    /// Starts anew with a configuration that leaves something out.
    pub(crate) fn leave_out(&mut self, patterns: &[&str]) {
        let patterns: Vec<String> = patterns.iter().map(|&p| p.to_owned()).collect();
        self.settings.reserves[0].1[0].exclude = haarb_config::Excludes::new(&patterns).unwrap();
        self.restart();
    }

    /// Starts anew with another limit for deletions.
    pub(crate) fn limit_deletions(&mut self, limit: haarb_config::DeletionLimit) {
        self.settings.reserves[0].1[0].deletion_limit = limit;
        self.restart();
    }

    /// Starts anew, and does not look for changes by others.
    pub(crate) fn never_look_around(&mut self) {
        self.settings.look_around = Duration::MAX;
        self.restart();
    }

    /// Starts anew with its directory elsewhere.
    pub(crate) fn move_to(&mut self, dir: &Path) {
        self.settings.reserves[0].1[0].at = dir.to_owned();
        self.restart();
    }

    pub(crate) fn stop(&mut self) {
        if let Some(syncer) = self.syncer.take() {
            drop(syncer);
        }
    }

    /// A new process, as far as that can be had in one.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.syncer = Some(Syncer::start(self.settings.clone()).unwrap());
    }

    fn syncer(&self) -> &Syncer {
        self.syncer.as_ref().unwrap()
    }

    pub(crate) fn hold(&self, sync: SyncDuty, epoch: u64) {
        self.syncer().hold(&[ReserveDuties {
            reserve: ReserveName::new("reserve").unwrap(),
            role: Role::Standby,
            epoch: Epoch(epoch),
            vip: VipDuty::default(),
            services: ServiceDuty::default(),
            sync,
        }]);
    }

    /// The other server is heard on these networks.
    pub(crate) fn heard(&self, other: &str, networks: &[&str]) {
        let networks = networks.iter().map(|n| NetworkName::new(n).unwrap());
        let heard = BTreeMap::from([(name(other), networks.collect())]);
        self.syncer().heard(&heard);
    }

    pub(crate) fn reserve(&self) -> SyncReserve {
        self.syncer().reports().borrow().reserves[0].clone()
    }

    pub(crate) fn directory(&self) -> DirectoryReport {
        self.reserve().directories[0].clone()
    }

    pub(crate) fn is_receiving(&self) -> bool {
        self.directory().state == DirectoryState::Receiving
    }

    pub(crate) fn refused(&self, reason: &str) -> u64 {
        self.syncer().refused().get(reason).copied().unwrap_or(0)
    }
}

/// Loopback addresses of this pair alone: tests run at the same time.
fn networks() -> [SocketAddr; 4] {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let pair = NEXT.fetch_add(1, Ordering::SeqCst);
    // One that is free now on one address is free on its neighbours.
    let probe = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = probe.local_addr().unwrap().port();
    let address = |network: u8, node: u8| SocketAddr::from(([127, pair, network, node], port));
    [address(1, 1), address(2, 1), address(1, 2), address(2, 2)]
}

impl Pair {
    pub(crate) fn new() -> Self {
        let [a1, a2, b1, b2] = networks();
        let addresses = [(name("alpha"), vec![a1, a2]), (name("beta"), vec![b1, b2])].into();
        Self {
            alpha: Server::new("alpha", 1, &addresses),
            beta: Server::new("beta", 1, &addresses),
            relays: Vec::new(),
        }
    }

    /// Beta reaches alpha through one relay per network, which can be cut.
    pub(crate) fn with_relays() -> Self {
        let [a1, a2, b1, b2] = networks();
        let addresses = [(name("alpha"), vec![a1, a2]), (name("beta"), vec![b1, b2])];
        let alpha = Server::new("alpha", 1, &addresses.clone().into());
        let relays = vec![Relay::start(a1), Relay::start(a2)];
        let through = relays.iter().map(Relay::address).collect();
        let mut seen: BTreeMap<_, _> = addresses.into();
        seen.insert(name("alpha"), through);
        let beta = Server::new("beta", 1, &seen);
        Self {
            alpha,
            beta,
            relays,
        }
    }

    pub(crate) fn relays(&self) -> &[Relay] {
        &self.relays
    }

    /// Somebody at beta's place who has another key.
    pub(crate) fn stranger(&self) -> Server {
        let mut addresses = self.beta.settings.addresses.clone();
        let own = networks();
        addresses.insert(name("beta"), vec![own[2], own[3]]);
        Server::new("beta", 2, &addresses)
    }

    /// Alpha sends, beta receives.
    pub(crate) fn start(&self, epoch: u64) {
        self.alpha.hold(source(), epoch);
        self.beta.hold(sink_of("alpha"), epoch);
    }

    pub(crate) fn wait_in_sync(&self) {
        self.wait_for(|| {
            self.alpha.directory().state == DirectoryState::InSync
                && self.beta.reserve().data == haarb_model::Data::Current
                && self.beta.is_receiving()
        });
    }

    /// Waits until it is so.
    pub(crate) fn wait_for(&self, so: impl Fn() -> bool) {
        let end = Instant::now() + WITHIN;
        while !so() {
            assert!(
                Instant::now() < end,
                "waited in vain; alpha {:?}, beta {:?}",
                self.alpha.reserve(),
                self.beta.reserve()
            );
            // What is waited for is on a disk: there is no event to wait for.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
