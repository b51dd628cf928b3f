//! Nodes as processes of this machine.

use std::{fs, path::Path, sync::Arc};

use async_trait::async_trait;

use super::{
    cut::Wire,
    line::Line,
    node::Outfit,
    settings::{self, Addresses, CONFIGURATION},
    switch::{Party, Switch},
};
use crate::{
    error::{Error, Result},
    locate,
    ports::Port,
    process::{Plan, Supervisor},
    server::{Runner, Server},
    site::Site,
};

/// The ports of one node: where it is found, and where it listens.
struct Ports {
    api: Port,
    behind: Port,
    cluster: Port,
    cluster_behind: Port,
}

/// A process and the lines that lead to it: who connects to a server that is not there is refused.
#[derive(Debug)]
struct Wired {
    supervisor: Supervisor,
    lines: [Line; 2],
    // Ours as long as the node is.
    _ports: [Port; 2],
}

/// What it takes to start nodes of these names, and the line that leads from them to the database on a port.
pub(super) async fn outfit(
    site: &Site,
    names: &'static [&'static str],
    database: u16,
) -> Result<(Vec<Outfit>, Line)> {
    let (report, threads) = (site.report, site.backstage.clone());
    let supervisors = site.backstage.block(move || {
        let program = locate::openbao(report)?;
        let supervisor = |&name: &&'static str| {
            let configuration = format!("-config={CONFIGURATION}");
            let plan = Plan {
                name,
                command: vec![program.clone().into(), "server".into(), configuration.into()],
                user: None,
                stop: "TERM",
                // Its storage goes as well, so there is nothing to be orderly about.
                end: "KILL",
            };
            Supervisor::new(&plan, &threads)
        };
        let supervisors: Vec<Supervisor> = names.iter().map(supervisor).collect::<Result<_>>()?;
        Ok((program, supervisors))
    });
    let (program, supervisors) = supervisors.await?;
    // As the kernel knows them.
    let seen = |folder: &Path| folder.canonicalize().map_err(Error::file(folder));
    let folders = supervisors.iter().map(|supervisor| seen(supervisor.folder()));
    let switch = Switch::new(folders.collect::<Result<_>>()?);
    let ports: Vec<Ports> = names.iter().map(|_| Ports::reserve()).collect::<Result<_>>()?;
    let addresses: Vec<Addresses> = ports.iter().map(Ports::addresses).collect();
    let key = settings::seal_key();
    let mut outfits = Vec::new();
    for (index, (supervisor, ports)) in supervisors.into_iter().zip(ports).enumerate() {
        let folder = supervisor.folder();
        let storage = folder.join("storage");
        fs::create_dir(&storage).map_err(Error::file(&storage))?;
        let others = settings::others(&addresses, index);
        settings::write(folder, (folder, storage.as_path()), names[index], &addresses[index], &others, &key)?;
        let address = addresses[index].api.clone();
        let runner = Wired::new(supervisor, ports, index, &switch, site);
        outfits.push(Outfit {
            name: names[index],
            server: Server::new(names[index], Arc::new(runner), &site.backstage),
            client: program.display().to_string(),
            container: None,
            address,
            wire: Wire::Switch(switch.clone(), index),
            port: None,
            backstage: site.backstage.clone(),
        });
    }
    let line = Line::for_nodes(&switch, Port::reserve()?, database, Party::Database, &site.backstage);
    line.open()?;
    Ok((outfits, line))
}

impl Ports {
    fn reserve() -> Result<Self> {
        let port = Port::reserve;
        Ok(Self { api: port()?, behind: port()?, cluster: port()?, cluster_behind: port()? })
    }

    fn addresses(&self) -> Addresses {
        let host = |port: &Port| format!("127.0.0.1:{}", port.number());
        let api = format!("http://{}", host(&self.api));
        Addresses {
            listen: host(&self.behind),
            listen_for_nodes: host(&self.cluster_behind),
            join: api.clone(),
            api,
            cluster: host(&self.cluster),
        }
    }
}

impl Wired {
    fn new(supervisor: Supervisor, ports: Ports, index: usize, switch: &Switch, site: &Site) -> Self {
        let Ports { api, behind, cluster, cluster_behind } = ports;
        let threads = &site.backstage;
        let lines = [
            Line::for_clients(switch, api, behind.number(), index, threads),
            Line::for_nodes(switch, cluster, cluster_behind.number(), Party::Node(index), threads),
        ];
        Self { supervisor, lines, _ports: [behind, cluster_behind] }
    }

    async fn close(&self) {
        for line in &self.lines {
            line.close().await;
        }
    }
}

#[async_trait]
impl Runner for Wired {
    fn folder(&self) -> &Path {
        self.supervisor.folder()
    }

    async fn start(&self) -> Result<()> {
        self.supervisor.start().await?;
        self.lines.iter().try_for_each(Line::open)
    }

    async fn alive(&self) -> Result<bool> {
        self.supervisor.alive().await
    }

    async fn pause(&self) -> Result<()> {
        self.supervisor.pause().await
    }

    async fn resume(&self) -> Result<()> {
        self.supervisor.resume().await
    }

    async fn kill(&self) -> Result<()> {
        self.supervisor.kill().await?;
        self.close().await;
        Ok(())
    }

    async fn stop(&self) -> Result<()> {
        self.supervisor.stop().await?;
        self.close().await;
        Ok(())
    }

    async fn log(&self) -> String {
        self.supervisor.log().await
    }

    fn release(&self) {
        for line in &self.lines {
            line.release();
        }
        self.supervisor.release();
    }
}
