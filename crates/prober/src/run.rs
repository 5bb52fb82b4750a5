//! The prober's loop: one task, one alarm, the sockets of every network.
//!
//! ```text
//! alarm, sockets, arbiter, stop  ->  read what arrived  ->  engine  ->  send, report
//! ```
//!
//! Nothing in it waits but the select at its top, all of whose branches are cancel-safe. A turn
//! that comes much later than the alarm asked for means that this process stood still.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::task::Poll;

use haarb_api::Directive;
use haarb_config::Config;
use haarb_daemon::timer::Alarm;
use haarb_daemon::{ArbiterLink, Context, FromArbiter, Shutdown, clock, prepare_real_time};
use haarb_model::{Agent, Mono, NodeName, Span};
use haarb_wire::{ClusterKey, Endpoint};

use crate::engine::{Engine, Outlet};
use crate::port::{Arrived, Place, Port, What};

/// A turn that is later than this reads the sockets before it judges, even those of which the
/// reactor has not heard.
const LATE: Span = Span::from_millis(1);
/// Between two looks at the configuration file when the arbiter works on another one.
const RELOAD_AFTER: Span = Span::from_secs(1);

/// Runs the prober until it is asked to stop.
///
/// # Errors
/// The cluster key cannot be used, or the kernel refuses a timer or random numbers.
pub async fn run(context: Context) -> anyhow::Result<()> {
    let key = ClusterKey::load(&context.options.key)?;
    let mut shutdown = Shutdown::listen()?;
    let link = ArbiterLink::spawn(
        &context.options.run_dir,
        Agent::Prober,
        context.config.digest,
    );
    prepare_real_time();
    serve(
        context,
        key,
        link,
        async move { shutdown.requested().await },
    )
    .await
}

/// Probes and reports until `stop` is ready.
///
/// # Errors
/// The kernel refuses a timer or random numbers. Nothing else ends it.
pub async fn serve(
    context: Context,
    key: ClusterKey,
    mut link: ArbiterLink,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut stop = pin!(stop);
    let mut prober = Prober::new(context, key)?;
    let mut alarm = Alarm::new()?;
    loop {
        let wake = prober.engine.wake(clock::now());
        alarm.set(wake)?;
        tokio::select! {
            () = &mut stop => return Ok(()),
            message = link.next() => {
                // The arbiter renews its word many times a second; that alone is no reason to turn.
                if !prober.hear(message)? {
                    continue;
                }
            }
            () = prober.ports.readable() => {}
            () = alarm.rings() => {}
        }
        prober.turn(wake);
        for report in prober.engine.reports() {
            link.report(report);
        }
    }
}

/// The sockets of all networks, in the order of the configuration.
#[derive(Debug)]
struct Ports(Vec<Port>);

impl Ports {
    fn new(config: &Config, me: &NodeName, session: u64) -> Self {
        let Some(node) = config.node(me) else {
            return Self(Vec::new());
        };
        let places = config.attachments(node).map(|(network, here)| {
            let neighbours = config
                .neighbours(me)
                .filter_map(|n| n.networks.get(network));
            let switch = config.networks.iter().find(|n| &n.name == network);
            let asked: Vec<IpAddr> = neighbours
                .map(|a| a.address)
                .chain(switch.and_then(|n| n.switch))
                .collect();
            Place {
                interface: here.interface.clone(),
                address: here.address,
                port: config.port,
                asks: [
                    asked.iter().any(IpAddr::is_ipv4),
                    asked.iter().any(IpAddr::is_ipv6),
                ],
                session,
            }
        });
        Self(places.map(Port::new).collect())
    }

    async fn readable(&self) {
        poll_fn(|context| {
            // Every socket is asked, so that each can wake us.
            let ready = self
                .0
                .iter()
                .fold(false, |ready, port| ready | port.poll_readable(context));
            if ready {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    fn drain(&mut self, what: What, engine: &mut Engine) {
        for (network, port) in self.0.iter_mut().enumerate() {
            port.drain(what, |arrived, at| match arrived {
                Arrived::Reply { from, number } => engine.echo_reply(network, from, number, at),
                Arrived::Datagram(bytes) => engine.datagram(network, bytes, at),
            });
        }
    }

    fn repair(&mut self, now: Mono) {
        for port in &mut self.0 {
            port.repair(now);
        }
    }
}

impl Outlet for Ports {
    fn echo(&mut self, network: usize, to: IpAddr, number: u64) -> Option<Mono> {
        self.0.get_mut(network)?.echo(to, number)
    }

    fn datagram(&mut self, network: usize, to: IpAddr, bytes: &[u8]) {
        if let Some(port) = self.0.get_mut(network) {
            port.datagram(to, bytes);
        }
    }
}

#[derive(Debug)]
struct Prober {
    context: Context,
    key: ClusterKey,
    engine: Engine,
    ports: Ports,
    reload_at: Mono,
}

impl Prober {
    fn new(context: Context, key: ClusterKey) -> std::io::Result<Self> {
        let (engine, ports) = build(&context.config, &context.me, &key)?;
        Ok(Self {
            context,
            key,
            engine,
            ports,
            reload_at: Mono::ZERO,
        })
    }

    fn turn(&mut self, planned: Mono) {
        let now = clock::now();
        let late = now.since(planned);
        self.ports.repair(now);
        // Nobody is judged by less than what waits in the sockets.
        let all = late > LATE || self.engine.verdict_due(now);
        let what = if all { What::All } else { What::Arrived };
        self.ports.drain(what, &mut self.engine);
        if late > self.context.config.timing.probe_interval {
            tracing::debug!("stood still for {late}");
            self.engine.stood_still(planned, now);
        }
        self.engine.step(now, &mut self.ports);
        // A near neighbour has answered by now: so no turn is needed to see whether it did.
        self.ports.drain(What::Replies, &mut self.engine);
        self.engine.conclude(clock::now());
    }

    /// True where a turn is due.
    fn hear(&mut self, message: FromArbiter) -> std::io::Result<bool> {
        let now = clock::now();
        match message {
            FromArbiter::Attached => self.engine.attached(now),
            FromArbiter::Lost => return Ok(false),
            FromArbiter::Directive(Directive {
                config_digest,
                payload,
                payload_until,
                ask_switches,
                // The rest is for other agents.
                ..
            }) => {
                let other = config_digest != self.context.config.digest;
                if other {
                    self.reload(config_digest, now)?;
                }
                let news = self.engine.directive(payload, payload_until, now);
                let asked = self.engine.await_switches(&ask_switches, now);
                return Ok(news || asked || other);
            }
        }
        Ok(true)
    }

    /// The arbiter works on another configuration: reads the file again. What the arbiter says
    /// is carried in any case, because without it the neighbours would take it for dead.
    fn reload(&mut self, digest: u64, now: Mono) -> std::io::Result<()> {
        if now < self.reload_at {
            return Ok(());
        }
        self.reload_at = now + RELOAD_AFTER;
        match self.context.options.load_config() {
            Ok((config, me)) if config.digest == digest => {
                tracing::info!("the configuration has changed; starting anew with it");
                (self.engine, self.ports) = build(&config, &me, &self.key)?;
                self.context.config = config;
                self.context.me = me;
            }
            Ok(_) => tracing::warn!(
                "the arbiter works on another configuration than {}; restart it, or put the file right",
                self.context.options.config.display()
            ),
            Err(problems) => tracing::warn!("the configuration cannot be read again: {problems}"),
        }
        Ok(())
    }
}

fn build(config: &Config, me: &NodeName, key: &ClusterKey) -> std::io::Result<(Engine, Ports)> {
    let session = Endpoint::random_session()?;
    let seal = Endpoint::seal(&config.cluster, key);
    let engine = Engine::new(config, me, seal, session, clock::now());
    Ok((engine, Ports::new(config, me, session)))
}
