//! What must be true when everything was mended: whoever can serve serves, once.

use haarb_model::{Mode, Role};

use super::Checks;
use crate::NodeIx;
use crate::world::World;

impl Checks {
    /// At the end, with everything mended: whoever can serve serves, exactly once, and the
    /// rest stands by.
    pub fn at_end(&mut self, world: &World) {
        let now = world.now;
        for (r, reserve) in world.segment.reserves.iter().enumerate() {
            let nodes = 0..world.servers.len();
            let active: Vec<NodeIx> = nodes
                .clone()
                .filter(|n| world.role(*n, r) == Some(Role::Active))
                .collect();
            let roles: Vec<String> = nodes
                .clone()
                .map(|n| {
                    let role = world.role(n, r).map_or("no arbiter", Role::as_str);
                    format!("{} {role}", world.servers[n].name)
                })
                .collect();
            let [n] = active[..] else {
                self.fail(format!("{}: {} at the end", reserve.name, roles.join(", ")));
                continue;
            };
            let server = &world.servers[n];
            if !server.holds(r, now) || (reserve.services > 0 && !server.running[r]) {
                self.fail(format!(
                    "{} is active on {} without its VIP or services",
                    reserve.name, server.name
                ));
            }
            for other in nodes.filter(|other| *other != n) {
                if world.role(other, r) != Some(Role::Standby) {
                    self.fail(format!("{}: {} at the end", reserve.name, roles.join(", ")));
                }
                let able = world.servers[other].core.as_ref().is_some_and(|core| {
                    core.reserve(&reserve.name)
                        .is_some_and(|state| state.obstacle.is_none())
                });
                if !able {
                    let server = &world.servers[other].name;
                    self.fail(format!(
                        "{server} is not eligible for {} at the end",
                        reserve.name
                    ));
                }
            }
        }
        for server in &world.servers {
            let Some(core) = &server.core else { continue };
            if core.mode().mode != Mode::Automatic {
                let reason = core.mode().mode.reason();
                self.fail(format!("{} is manual ({reason}) at the end", server.name));
            }
            if let Some(alarm) = core.alarms().find(|alarm| alarm.rule != "X4") {
                self.fail(format!(
                    "{}: alarm {} stands at the end: {}",
                    server.name, alarm.rule, alarm.text
                ));
            }
        }
    }
}
