//! What the segment looks like at this moment, for whoever draws it while a drill runs.

use serde::Serialize;

/// Power and cables of a segment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Picture {
    /// Per network: whether its switch has power.
    pub switches: Vec<bool>,
    /// Per server.
    pub servers: Vec<ServerPicture>,
}

/// One server in the picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerPicture {
    /// It has power.
    pub on: bool,
    /// Per network: its cable is plugged in.
    pub cables: Vec<bool>,
}

impl Picture {
    /// Whether a server has a link on a network: power at both ends and a cable between.
    #[must_use]
    pub fn has_link(&self, server: usize, network: usize) -> bool {
        let plugged = self
            .servers
            .get(server)
            .filter(|server| server.on)
            .and_then(|server| server.cables.get(network));
        plugged.copied().unwrap_or(false) && self.switches.get(network).copied().unwrap_or(false)
    }
}
