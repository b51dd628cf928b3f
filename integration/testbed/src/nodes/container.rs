//! Nodes as containers, each with a network of its own.

use std::{net::IpAddr, path::Path, sync::Arc};

use futures_util::future::try_join_all;

use super::{
    cut::{Cut, Wire},
    node::Outfit,
    settings::{self, Addresses, CONFIGURATION},
};
use crate::{
    error::Result,
    image::Image,
    pod::{Pod, SHOWN, Spec, reaper::Reaper},
    ports::Port,
    server::{Runner as _, Server},
    site::Site,
};

/// The port that nodes find each other at, as OpenBao has it.
const CLUSTER: u16 = 8201;

/// A node's network, and how it is cut from others.
#[derive(Clone, Debug)]
pub(super) struct Cable {
    pod: Pod,
    /// Where the other nodes are.
    others: Vec<IpAddr>,
}

impl Cable {
    /// Cuts the node off, and from those alone that are named.
    pub(super) async fn cut(&self, cut: Cut) -> Result<()> {
        self.mend().await?;
        let line = match cut {
            Cut::Everybody => "ip link set eth0 down".to_owned(),
            // What does not leave is not answered, and what comes in is not either.
            Cut::Nodes => {
                let each = self.others.iter().map(|other| format!("ip route add blackhole {other}/32"));
                each.collect::<Vec<_>>().join(" && ")
            }
        };
        self.pod.run(&line).await
    }

    /// Undoes every cut.
    pub(super) async fn mend(&self) -> Result<()> {
        let mut line = "ip link set eth0 up".to_owned();
        if let Some(gateway) = self.pod.gateway() {
            // With the interface its routes went, all but the one of its own network. It may be there, too.
            line += &format!("; ip route add default via {gateway} 2>/dev/null");
        }
        for other in &self.others {
            line += &format!("; ip route del blackhole {other}/32 2>/dev/null");
        }
        self.pod.run(&(line + "; true")).await
    }
}

/// What it takes to start nodes of these names beside a testbed's containers, and what removes them.
pub(super) async fn outfit(
    site: &Site,
    beside: &Pod,
    names: &'static [&'static str],
) -> Result<(Vec<Outfit>, Arc<Reaper>)> {
    let image = beside.image(Image::OpenBao).await?;
    let reaper = Arc::new(Reaper::start(beside.engine().threads(), "nodes").await?);
    let ports: Vec<Port> = names.iter().map(|_| Port::reserve()).collect::<Result<_>>()?;
    let numbers: Vec<u16> = ports.iter().map(Port::number).collect();
    let pods = names.iter().zip(&numbers).map(|(name, number)| beside.apart(&reaper, name, *number));
    let pods = try_join_all(pods).await?;
    let hosts: Vec<IpAddr> = pods.iter().map(Pod::address).collect::<Result<_>>()?;
    let addresses: Vec<Addresses> =
        hosts.iter().zip(&numbers).map(|(host, port)| found(*host, *port)).collect();
    let key = settings::seal_key();
    let mut outfits = Vec::new();
    for (index, (pod, port)) in pods.into_iter().zip(ports).enumerate() {
        let container = Arc::new(pod.container(Spec {
            name: names[index],
            image: image.clone(),
            // With its own name first, the entrypoint adds no folder of its own and still gives root up.
            command: ["bao", "server", &format!("-config={SHOWN}/{CONFIGURATION}")].map(str::to_owned).into(),
            // A capability for locking memory, which is not asked for.
            environment: vec![("SKIP_SETCAP", "true".into())],
            stop: "TERM",
        })?);
        let others = settings::others(&addresses, index);
        let places = (Path::new(SHOWN), Path::new("/openbao/file"));
        settings::write(container.folder(), places, names[index], &addresses[index], &others, &key)?;
        outfits.push(Outfit {
            name: names[index],
            server: Server::new(names[index], container.clone(), &site.backstage),
            client: "bao".into(),
            container: Some(container),
            address: addresses[index].api.clone(),
            wire: Wire::Cable(Cable {
                pod,
                others: settings::others(&hosts, index).into_iter().copied().collect(),
            }),
            port: Some(port),
            backstage: site.backstage.clone(),
        });
    }
    Ok((outfits, reaper))
}

/// Where a node is found that has a host of its own.
fn found(host: IpAddr, port: u16) -> Addresses {
    Addresses {
        listen: format!("0.0.0.0:{port}"),
        listen_for_nodes: format!("0.0.0.0:{CLUSTER}"),
        // From this machine. Nodes pass requests on by themselves and send nobody there.
        api: format!("http://127.0.0.1:{port}"),
        cluster: format!("{host}:{CLUSTER}"),
        join: format!("http://{host}:{port}"),
    }
}
