//! A live segment: switches, servers, the client and those who watch.
//!
//! The one owner of everything that exists; faults are its methods. It knows nothing of haarb: what the
//! servers boot is given to it. Dropping it switches everything off.

use std::{
    fs,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{
    analysis::{self, Report},
    bad_cable::{BadCable, Flaws},
    bystander::{Bystander, Stranger},
    client::Client,
    clock::Stamp,
    error::LabError,
    guest::BootCommand,
    load::Load,
    machine::{self, Identity},
    netns::NetNs,
    observer::{AddressEvent, AddressLog},
    picture::{Picture, ServerPicture},
    plan::{NetworkId, Plan, ServerId, VipId},
    server::{FaultTimes, Output, Programs, Server},
    switch::Switch,
};

/// A running segment.
pub struct Segment {
    plan: Plan,
    switches: Vec<Switch>,
    servers: Vec<Server>,
    client_netns: NetNs,
    client: Client,
    addresses: AddressLog,
    programs: Programs,
    boot: Vec<Vec<BootCommand>>,
    picture: Arc<Mutex<Picture>>,
    bystander: Bystander,
    stranger: Option<Stranger>,
    load: Option<Load>,
}

impl Segment {
    /// Builds the segment with all servers switched off and the client asking.
    ///
    /// `dir` takes the servers' disks; `boot` says what each server starts when it is switched on.
    ///
    /// # Errors
    /// As the kernel or the file system refuses.
    pub fn build(
        plan: Plan,
        dir: impl Into<PathBuf>,
        programs: Programs,
        boot: impl Fn(&Plan, ServerId) -> Vec<BootCommand>,
    ) -> Result<Self, LabError> {
        let dir = dir.into();
        fs::create_dir_all(&dir).map_err(LabError::file(&dir))?;
        let mut switches = (0..plan.networks.len())
            .map(|network| Switch::build(&plan, network))
            .collect::<Result<Vec<_>, _>>()?;
        let who = Identity {
            name: "client",
            mac: &|network| plan.client_mac(network),
            addresses: &|network| plan.client_addresses(network),
        };
        let client_netns = machine::build(&plan, &mut switches, &who)?;
        let client = Client::start(&client_netns, &plan).map_err(LabError::Client)?;
        let bystander = Bystander::build(&plan, &mut switches)?;
        let servers = plan
            .servers
            .iter()
            .enumerate()
            .map(|(id, name)| Server::new(id, name, &dir))
            .collect::<Result<Vec<_>, _>>()?;
        let boot = (0..servers.len())
            .map(|server| boot(&plan, server))
            .collect();
        let addresses = AddressLog::default();
        let lab = Self {
            plan,
            switches,
            servers,
            client_netns,
            client,
            addresses,
            programs,
            boot,
            picture: Arc::default(),
            bystander,
            stranger: None,
            load: None,
        };
        lab.redraw();
        Ok(lab)
    }

    /// The plan it was built by.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// A server.
    #[must_use]
    pub fn server(&self, server: ServerId) -> &Server {
        &self.servers[server]
    }

    /// A switch.
    #[must_use]
    pub fn switch(&self, network: NetworkId) -> &Switch {
        &self.switches[network]
    }

    /// The client.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The client's network namespace.
    #[must_use]
    pub const fn client_netns(&self) -> &NetNs {
        &self.client_netns
    }

    /// Who held which address when.
    #[must_use]
    pub const fn addresses(&self) -> &AddressLog {
        &self.addresses
    }

    /// When the virtual IPs came to servers and left them since `from`.
    #[must_use]
    pub fn vip_events(&self, from: Stamp) -> Vec<AddressEvent> {
        let mut events = self.addresses.events();
        events.retain(|event| {
            event.at >= from
                && self
                    .plan
                    .vips
                    .iter()
                    .any(|vip| vip.address == event.address)
        });
        events
    }

    /// The servers that hold `address` now.
    #[must_use]
    pub fn holders(&self, address: IpAddr) -> Vec<ServerId> {
        self.addresses.holders(address, self.servers.len())
    }

    /// The programs that the servers run.
    #[must_use]
    pub const fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Servers that have power.
    pub fn powered(&self) -> impl Iterator<Item = ServerId> + '_ {
        (0..self.servers.len()).filter(|server| self.servers[*server].is_on())
    }

    /// Makes every server a whole Debian system that boots with systemd.
    ///
    /// # Errors
    /// See [`Server::become_debian`].
    pub fn become_debian(&mut self) -> Result<(), LabError> {
        self.servers.iter_mut().try_for_each(Server::become_debian)
    }

    /// Switches a server on.
    ///
    /// # Errors
    /// See [`Server::power_on`].
    pub fn power_on(&mut self, server: ServerId) -> Result<FaultTimes, LabError> {
        let boot = self.boot[server].clone();
        let times = FaultTimes::of(|| {
            self.servers[server].power_on(
                &self.plan,
                &mut self.switches,
                &self.programs,
                boot,
                &self.addresses,
            )
        });
        self.drawn(times)
    }

    /// Cuts the power of a server.
    ///
    /// # Errors
    /// See [`Server::power_off`].
    pub fn power_off(&mut self, server: ServerId) -> Result<FaultTimes, LabError> {
        let times = self.servers[server].power_off(&mut self.switches, &self.addresses);
        self.drawn(times)
    }

    /// Pulls a server's cable to a switch, or plugs it in.
    ///
    /// # Errors
    /// See [`Switch::plug`].
    pub fn plug(
        &mut self,
        server: ServerId,
        network: NetworkId,
        plugged: bool,
    ) -> Result<FaultTimes, LabError> {
        let name = self.servers[server].name().to_owned();
        let times = FaultTimes::of(|| self.switches[network].plug(&name, plugged));
        self.drawn(times)
    }

    /// Switches switches off or on, all at the same instant.
    ///
    /// # Errors
    /// See [`Switch::power`].
    pub fn power_switches(
        &mut self,
        networks: &[NetworkId],
        on: bool,
    ) -> Result<FaultTimes, LabError> {
        let times = FaultTimes::of(|| {
            networks
                .iter()
                .try_for_each(|network| self.switches[*network].power(on))
        });
        self.drawn(times)
    }

    /// Lets a switch hang with its carriers up, or ends it.
    ///
    /// # Errors
    /// See [`Switch::hang`].
    pub fn hang_switch(&mut self, network: NetworkId, hangs: bool) -> Result<FaultTimes, LabError> {
        FaultTimes::of(|| self.switches[network].hang(hangs))
    }

    /// Makes a layer-2 hole between servers on one network; an empty list mends it.
    ///
    /// # Errors
    /// See [`Switch::hole`].
    pub fn hole(
        &mut self,
        network: NetworkId,
        servers: &[ServerId],
    ) -> Result<FaultTimes, LabError> {
        let names: Vec<&str> = servers
            .iter()
            .map(|server| self.servers[*server].name())
            .collect();
        FaultTimes::of(|| self.switches[network].hole(&names))
    }

    /// Makes a server's cable bad, or (`None`) good again.
    ///
    /// # Errors
    /// See [`Switch::spoil`].
    pub fn spoil(
        &mut self,
        server: ServerId,
        network: NetworkId,
        cable: Option<BadCable>,
    ) -> Result<FaultTimes, LabError> {
        FaultTimes::of(|| self.switches[network].spoil(self.servers[server].name(), cable))
    }

    /// Freezes a server's user space, or thaws it.
    ///
    /// # Errors
    /// See [`Server::freeze`].
    pub fn freeze(&self, server: ServerId, frozen: bool) -> Result<FaultTimes, LabError> {
        self.servers[server].freeze(frozen)
    }

    /// Kills one program of a server with SIGKILL.
    ///
    /// # Errors
    /// See [`Server::signal_program`].
    pub fn kill_program(&self, server: ServerId, program: &str) -> Result<FaultTimes, LabError> {
        self.servers[server].signal_program(program, Signal::SIGKILL)
    }

    /// The host that keeps entries for the virtual IPs in its neighbour table.
    #[must_use]
    pub const fn bystander(&self) -> &Bystander {
        &self.bystander
    }

    /// Lets a machine that is no server take a virtual IP and announce it.
    ///
    /// # Errors
    /// As the kernel refuses.
    pub fn stranger_takes(&mut self, vip: VipId) -> Result<FaultTimes, LabError> {
        let stranger = Stranger::build(&self.plan, &mut self.switches)?;
        let stranger = self.stranger.insert(stranger);
        FaultTimes::of(|| stranger.take(&self.plan, vip))
    }

    /// Takes that machine off the networks.
    ///
    /// # Errors
    /// As the kernel refuses.
    pub fn stranger_leaves(&mut self) -> Result<FaultTimes, LabError> {
        FaultTimes::of(|| {
            self.stranger = None;
            self.switches
                .iter_mut()
                .try_for_each(|switch| switch.remove_cable("stranger"))
        })
    }

    /// Pauses a whole server: its processes stand still and nothing passes its cables, or ends that.
    /// Its kernel's timers run on, which those of a paused virtual machine would not. Cables that were
    /// good are exchanged for bad ones, which are good afterwards but stay.
    ///
    /// # Errors
    /// When it has no power, or as the kernel refuses.
    pub fn pause(&mut self, server: ServerId, paused: bool) -> Result<FaultTimes, LabError> {
        let name = self.servers[server].name().to_owned();
        let began = Stamp::now();
        for switch in &mut self.switches {
            let loss = if paused { 1.0 } else { 0.0 };
            let flaws = Flaws {
                loss,
                ..Flaws::default()
            };
            if paused || switch.is_spoilt(&name) {
                switch.spoil(&name, Some(BadCable::both_ways(flaws)))?;
            }
        }
        let frozen = self.freeze(server, paused)?;
        Ok(FaultTimes { began, ..frozen })
    }

    /// Kills one program of a server and makes it impossible to start until [`Segment::mend_programs`].
    ///
    /// # Errors
    /// See [`Server::break_program`].
    pub fn break_program(
        &mut self,
        server: ServerId,
        program: &str,
    ) -> Result<FaultTimes, LabError> {
        self.servers[server].break_program(&self.programs.helper, program)
    }

    /// Makes every program of a server possible to start again.
    ///
    /// # Errors
    /// As the kernel refuses.
    pub fn mend_programs(&mut self, server: ServerId) -> Result<(), LabError> {
        self.servers[server].mend_programs(&self.programs.helper)
    }

    /// Puts a load on the machine that carries the lab, or (`None`) ends it.
    pub fn set_load(&mut self, load: Option<Load>) {
        self.load = load;
    }

    /// The state of power and cables, kept up to date for whoever draws it.
    #[must_use]
    pub fn picture(&self) -> Arc<Mutex<Picture>> {
        Arc::clone(&self.picture)
    }

    fn drawn(&self, times: Result<FaultTimes, LabError>) -> Result<FaultTimes, LabError> {
        self.redraw();
        times
    }

    fn redraw(&self) {
        let server = |server: &Server| ServerPicture {
            on: server.is_on(),
            cables: self
                .switches
                .iter()
                .map(|switch| switch.is_plugged(server.name()))
                .collect(),
        };
        let picture = Picture {
            switches: self.switches.iter().map(Switch::is_powered).collect(),
            servers: self.servers.iter().map(server).collect(),
        };
        *self.picture.lock().unwrap_or_else(PoisonError::into_inner) = picture;
    }

    /// Runs a command inside a server.
    ///
    /// # Errors
    /// See [`Server::run`].
    pub fn run(
        &self,
        server: ServerId,
        argv: &[&str],
        limit: Duration,
    ) -> Result<Output, LabError> {
        self.servers[server].run(&self.programs.helper, argv, limit)
    }

    /// Waits until `holds` gives something, looking every `step`.
    ///
    /// # Errors
    /// [`LabError::Deadline`] with what `holds` last said instead.
    pub fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        step: Duration,
        mut holds: impl FnMut(&Self) -> Result<T, String>,
    ) -> Result<T, LabError> {
        let start = Stamp::now();
        loop {
            let seen = match holds(self) {
                Ok(found) => return Ok(found),
                Err(seen) => seen,
            };
            let waited = Stamp::now().since(start);
            if waited >= limit {
                return Err(LabError::Deadline {
                    what: what.to_owned(),
                    waited_ms: waited.as_secs_f64() * 1e3,
                    seen,
                });
            }
            std::thread::sleep(step);
        }
    }

    /// Waits until every virtual IP (or, with `any`, at least one) has been answered by `server` since `since`.
    ///
    /// # Errors
    /// [`LabError::Deadline`].
    pub fn until_served_by(
        &self,
        server: ServerId,
        since: Stamp,
        any: bool,
        limit: Duration,
    ) -> Result<(), LabError> {
        let what = format!("{} serves", self.servers[server].name());
        self.until(&what, limit, Duration::from_millis(1), |lab| {
            let serves = |vip: VipId| {
                lab.client
                    .last_answer(vip)
                    .is_some_and(|(who, when)| who == server && when > since)
            };
            let mut vips = 0..lab.plan.vips.len();
            let ok = if any {
                vips.any(serves)
            } else {
                vips.all(serves)
            };
            if ok {
                Ok(())
            } else {
                Err(lab.describe_service(since))
            }
        })
    }

    /// Who serves what, in words.
    #[must_use]
    pub fn describe_service(&self, since: Stamp) -> String {
        let one = |vip: VipId| {
            let address = self.plan.vips[vip].address;
            match self.client.last_answer(vip) {
                Some((server, when)) if when > since => {
                    format!("{address} by {}", self.servers[server].name())
                }
                _ => format!("{address} by nobody"),
            }
        };
        (0..self.plan.vips.len())
            .map(one)
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// What the clients saw from `from` until now, around a fault at `fault`.
    #[must_use]
    pub fn report(&self, from: Stamp, fault: Stamp) -> Report {
        let to = Stamp::now();
        analysis::report(&self.client.cut(from, to), from, fault, to)
    }

    /// Milliseconds since `from` during which an address under observation was on two servers that both
    /// had power, whether or not they would have answered.
    #[must_use]
    pub fn held_by_both_ms(&self, from: Stamp) -> f64 {
        let to = Stamp::now();
        let per_vip = |vip: &crate::plan::Vip| {
            let lists: Vec<_> = (0..self.servers.len())
                .map(|server| self.addresses.held(server, vip.address, from, to))
                .collect();
            analysis::overlap_ms(&lists)
        };
        self.plan.vips.iter().map(per_vip).sum()
    }

    /// The end of every log of a server, for a failure report.
    #[must_use]
    pub fn logs(&self, server: ServerId, lines: usize) -> String {
        let dir = self.servers[server].disk().join("log");
        let mut names: Vec<PathBuf> = fs::read_dir(&dir)
            .map(|all| all.filter_map(|entry| Some(entry.ok()?.path())).collect())
            .unwrap_or_default();
        names.sort();
        let mut text = String::new();
        for path in names {
            let all = fs::read(&path)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .unwrap_or_default();
            let skip = all.lines().count().saturating_sub(lines);
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            text.push_str(&format!(
                "--- {} {name}, last {lines} lines\n",
                self.servers[server].name()
            ));
            for line in all.lines().skip(skip) {
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }
}
