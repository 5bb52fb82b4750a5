//! The agent as a test drives it: in this process by a pair of queues, or as a process of
//! its own with a small arbiter behind its socket.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::client::Without;
use haarb_api::v1::arbiter_server::{Arbiter, ArbiterServer};
use haarb_api::{Directive, v1};
use haarb_config::Config;
use haarb_daemon::{ArbiterLink, FromArbiter, clock};
use haarb_model::{
    Epoch, Guard, Mono, Report, ReserveDuties, ReserveName, Role, ServiceDuty, Span, SyncDuty,
    VipDuty, VipReserve, VipSpec,
};
use haarb_vip_agent::agent::{Agent, End};
use haarb_vip_agent::lease::Record;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};

const CONFIG: &str = "\
cluster: lab
timing:
  profile: telecom
networks:
  - name: red
  - name: blue
nodes:
  - name: alpha
    networks:
      red: { interface: eth0, address: 10.77.1.1 }
      blue: { interface: eth1, address: 10.77.2.1 }
  - name: beta
    networks:
      red: { interface: eth0, address: 10.77.1.2 }
      blue: { interface: eth1, address: 10.77.2.2 }
reserves:
  - name: sip
    vips:
      - { address: 10.77.1.100/24, interface: eth0 }
      - { address: 'fd77:1::100/64', interface: eth0 }
";

/// The configuration of all tests.
pub(crate) fn config() -> Config {
    Config::parse(CONFIG, "test.yaml").expect("the test's configuration")
}

/// The same with other VIPs in place of its own.
pub(crate) fn config_with(vips: &[VipSpec]) -> Config {
    let mut config = config();
    config.reserves[0].vips = vips.to_vec();
    config
}

/// Its two VIPs: IPv4, IPv6.
pub(crate) fn vips() -> [VipSpec; 2] {
    let vips = config().reserves.remove(0).vips;
    vips.try_into().expect("two VIPs")
}

/// What the arbiter says; everything off unless changed.
pub(crate) fn duties(epoch: u64, vip: VipDuty) -> Vec<ReserveDuties> {
    vec![ReserveDuties {
        reserve: ReserveName::new("sip").expect("a name"),
        role: if vip.hold {
            Role::Active
        } else {
            Role::Standby
        },
        epoch: Epoch(epoch),
        vip,
        services: ServiceDuty::default(),
        sync: SyncDuty::default(),
    }]
}

/// Hold for `ms` milliseconds from now.
pub(crate) fn hold(epoch: u64, ms: u64) -> Vec<ReserveDuties> {
    let vip = VipDuty {
        hold: true,
        until: clock::now() + Span::from_millis(ms),
        ..VipDuty::default()
    };
    duties(epoch, vip)
}

/// Probe, with these neighbours.
pub(crate) fn probe(neighbour_macs: Vec<[u8; 6]>) -> Vec<ReserveDuties> {
    let vip = VipDuty {
        probe: true,
        neighbour_macs,
        ..VipDuty::default()
    };
    duties(1, vip)
}

/// Hold nothing.
pub(crate) fn nothing(epoch: u64) -> Vec<ReserveDuties> {
    duties(epoch, VipDuty::default())
}

/// The agent in this process.
pub(crate) struct Inside {
    to_agent: mpsc::Sender<FromArbiter>,
    reports: mpsc::Receiver<Report>,
    end: Option<oneshot::Sender<End>>,
    ended: tokio::task::JoinHandle<()>,
    _run_dir: TempDir,
}

impl Inside {
    pub(crate) async fn start() -> Self {
        Self::start_with(&config()).await
    }

    pub(crate) async fn start_with(config: &Config) -> Self {
        let run_dir = TempDir::new().expect("a directory");
        let (link, to_agent, reports) = ArbiterLink::pair();
        let record = Record::open(run_dir.path()).expect("a record");
        let agent = Agent::start(config, &config.nodes[0].name, record, link).await;
        let mut agent = agent.expect("an agent");
        let (end, ends) = oneshot::channel();
        let ended = tokio::spawn(async move {
            let end = async move { ends.await.unwrap_or(End::Stop) };
            agent.run(end).await.expect("a good end");
        });
        Self {
            to_agent,
            reports,
            end: Some(end),
            ended,
            _run_dir: run_dir,
        }
    }

    pub(crate) async fn tell(&self, reserves: Vec<ReserveDuties>) {
        let directive = Directive {
            reserves,
            ..Directive::default()
        };
        let message = FromArbiter::Directive(directive);
        self.to_agent.send(message).await.expect("the agent lives");
    }

    /// Waits for a report of the reserve.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        wanted: impl Fn(&VipReserve) -> bool,
    ) -> VipReserve {
        until(&mut self.reports, what, wanted).await
    }

    /// Dies on the spot: nothing is let go.
    pub(crate) async fn die(self) {
        self.ended.abort();
        let ended = self.ended.await;
        assert!(ended.is_err_and(|error| error.is_cancelled()));
    }

    pub(crate) async fn stop(mut self) {
        let end = self.end.take().expect("it runs");
        end.send(End::Stop).expect("it runs");
        self.ended.await.expect("no panic");
    }
}

async fn until(
    reports: &mut mpsc::Receiver<Report>,
    what: &str,
    wanted: impl Fn(&VipReserve) -> bool,
) -> VipReserve {
    let mut last = None;
    let found = async {
        while let Some(report) = reports.recv().await {
            if let Report::Vip(mut report) = report {
                let reserve = report.reserves.remove(0);
                if wanted(&reserve) {
                    return Some(reserve);
                }
                last = Some(reserve);
            }
        }
        None
    };
    let found = tokio::time::timeout(super::PATIENCE, found).await;
    match found {
        Ok(Some(reserve)) => reserve,
        _ => panic!("no report of {what}; the last one: {last:?}"),
    }
}

/// The agent as a process, and its arbiter.
pub(crate) struct Process {
    child: Child,
    run_dir: TempDir,
    without: Without,
    to_agent: mpsc::Receiver<mpsc::Sender<Result<v1::Directive, tonic::Status>>>,
    attached: Option<mpsc::Sender<Result<v1::Directive, tonic::Status>>>,
    pub(crate) reports: mpsc::Receiver<Report>,
}

struct TestArbiter {
    streams: mpsc::Sender<mpsc::Sender<Result<v1::Directive, tonic::Status>>>,
    reports: mpsc::Sender<Report>,
}

#[tonic::async_trait]
impl Arbiter for TestArbiter {
    type AttachStream = ReceiverStream<Result<v1::Directive, tonic::Status>>;

    async fn attach(
        &self,
        request: tonic::Request<tonic::Streaming<v1::AgentMessage>>,
    ) -> Result<tonic::Response<Self::AttachStream>, tonic::Status> {
        let mut messages = request.into_inner();
        let reports = self.reports.clone();
        tokio::spawn(async move {
            while let Ok(Some(message)) = messages.message().await {
                if let Some(Ok(report)) = message.message.map(Report::try_from) {
                    let _ = reports.send(report).await;
                }
            }
        });
        let (to_agent, stream) = mpsc::channel(16);
        let _ = self.streams.send(to_agent).await;
        Ok(tonic::Response::new(ReceiverStream::new(stream)))
    }
}

impl Process {
    /// Starts the arbiter and the agent, and waits until it has attached.
    pub(crate) async fn start() -> Self {
        Self::start_without(Without::Nothing).await
    }

    /// The same, with an agent to which the kernel refuses something.
    pub(crate) async fn start_without(without: Without) -> Self {
        let run_dir = TempDir::new().expect("a directory");
        std::fs::write(run_dir.path().join("haarb.yaml"), CONFIG).expect("written");
        let socket = haarb_api::transport::agent_socket(run_dir.path());
        let listener = tokio::net::UnixListener::bind(socket).expect("a socket");
        let (streams, to_agent) = mpsc::channel(4);
        let (sender, reports) = mpsc::channel(256);
        let arbiter = ArbiterServer::new(TestArbiter {
            streams,
            reports: sender,
        });
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(arbiter)
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        let mut process = Self {
            child: spawn(run_dir.path(), without),
            run_dir,
            without,
            to_agent,
            attached: None,
            reports,
        };
        process.attach().await;
        process
    }

    async fn attach(&mut self) {
        let attached = tokio::time::timeout(super::PATIENCE, self.to_agent.recv()).await;
        self.attached = attached.expect("it attaches");
    }

    pub(crate) async fn tell(&self, reserves: Vec<ReserveDuties>) {
        let directive = Directive {
            reserves,
            ..Directive::default()
        };
        let to_agent = self.attached.as_ref().expect("attached");
        to_agent
            .send(Ok((&directive).into()))
            .await
            .expect("it lives");
    }

    pub(crate) async fn until(
        &mut self,
        what: &str,
        wanted: impl Fn(&VipReserve) -> bool,
    ) -> VipReserve {
        until(&mut self.reports, what, wanted).await
    }

    /// What it says about the kernel's line on its interface.
    pub(crate) async fn guard(&mut self) -> Guard {
        let said = async {
            loop {
                let report = self.reports.recv().await.expect("it lives");
                if let Report::Vip(report) = report
                    && let Some(guard) = report.guards.get("eth0")
                {
                    return guard.clone();
                }
            }
        };
        let said = tokio::time::timeout(super::PATIENCE, said).await;
        said.expect("a report of the gate")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).expect("a signal to our child");
    }

    /// Ends the process by a signal and waits until it is gone.
    pub(crate) fn end(&mut self, signal: Signal) {
        self.signal(signal);
        self.child.wait().expect("our child");
    }

    /// Removes what the agent remembers of its leases.
    pub(crate) fn forget_leases(&self) {
        let record = self.run_dir.path().join("vip-agent.leases");
        std::fs::remove_file(record).expect("a record");
    }

    /// Starts the agent again in the same run directory.
    pub(crate) async fn start_again(&mut self) {
        self.child = spawn(self.run_dir.path(), self.without);
        self.attach().await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(run_dir: &Path, without: Without) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_haarb-vip-agent"));
    without.apply(&mut command);
    command
        .args(["--node", "alpha", "--config"])
        .arg(run_dir.join("haarb.yaml"))
        .arg("--run-dir")
        .arg(run_dir)
        .stdin(Stdio::null())
        .spawn()
        .expect("the agent's binary")
}

/// Whether a reserve's addresses are all held, or none.
pub(crate) fn all_held(reserve: &VipReserve, held: bool) -> bool {
    reserve.vips.iter().all(|v| v.held == held)
}

/// How long ago, in milliseconds.
pub(crate) fn ms_since(moment: Mono) -> u64 {
    clock::now().since(moment).as_millis()
}
