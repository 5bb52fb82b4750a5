//! Who can hear whom, and act on it: from the state of networks, machines and processes.

use haarb_model::Mode;

use crate::NodeIx;
use crate::server::{Process, Server};
use crate::world::World;

/// Its software runs: it says what it does, acts on what others say, and can let go.
pub(super) fn listens(server: &Server) -> bool {
    tells(server) && runs(server, Process::VipAgent)
}

/// It says what it does.
pub(super) fn tells(server: &Server) -> bool {
    server.frozen.is_none() && runs(server, Process::Arbiter) && runs(server, Process::Prober)
}

pub(super) fn runs(server: &Server, process: Process) -> bool {
    server.runs(process) && !server.stopped[process.ix()]
}

/// What one server says surely reaches another that can act on it.
pub(super) fn hears(world: &World, from: NodeIx, to: NodeIx) -> bool {
    let works = |n: NodeIx| {
        let server = &world.servers[n];
        let attached = |process: Process| server.connected[process.ix()];
        let maintenance = |core: &haarb_decision::Core| core.mode().mode == Mode::Maintenance;
        server.alive()
            && listens(server)
            && attached(Process::Prober)
            && attached(Process::VipAgent)
            && server.core.as_ref().is_some_and(|core| !maintenance(core))
    };
    let rough = &world.rough;
    let calm = world.fabric.loss == 0.0 && rough.gusts.is_none() && rough.detour == 0.0;
    let reaches = world.fabric.reaches(from, to) && believed(world, from, to);
    calm && works(from) && works(to) && reaches
}

/// A server is attached and what it says reaches another attached one nowhere.
pub(super) fn cannot_tell(world: &World) -> bool {
    let up = |n: NodeIx| world.servers[n].power && world.fabric.degree(n) > 0;
    let nodes = 0..world.servers.len();
    nodes.clone().any(|a| {
        nodes
            .clone()
            .any(|b| a != b && up(a) && up(b) && !world.fabric.reaches(a, b))
    })
}

/// No datagram passes between two servers that have power, in either direction.
pub(super) fn unheard(world: &World) -> bool {
    let (servers, fabric) = (&world.servers, &world.fabric);
    let on = |n: NodeIx| servers[n].power;
    let nodes = 0..servers.len();
    nodes.clone().any(|a| {
        let silent = |b: NodeIx| !fabric.reaches(a, b) && !fabric.reaches(b, a);
        nodes.clone().any(|b| a < b && on(a) && on(b) && silent(b))
    })
}

/// Whether `to` has accepted the present session of the prober of `from`.
pub(super) fn believed(world: &World, from: NodeIx, to: NodeIx) -> bool {
    let (Some(sender), Some(receiver)) = (&world.servers[from].prober, &world.servers[to].prober)
    else {
        return false;
    };
    receiver.believes(from, sender.session)
}
