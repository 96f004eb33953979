//! `xtfs ps`: processes and services of an instance.

use clap::Args;
use serde_json::{Value, json};

use crate::args::{DataDir, Global};
use crate::cluster::Cluster;
use crate::failure::Outcome;
use crate::instance::process::Process;
use crate::instance::{Home, Instance, Service, lock};
use crate::output;

/// List the processes and services of an instance
#[derive(Debug, Args)]
pub(crate) struct Ps {
    #[command(flatten)]
    data: DataDir,
}

impl Ps {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let home = Home::at(&self.data.data)?;
        let instance = home.instance()?;
        let cluster = Cluster::new(rt::rpc::Connector::new(), instance.addrs("dir"), global.timeout);
        super::run_async(async {
            let rows = instance.enabled().map(|service| row(&home, &instance, service, &cluster));
            let rows: Vec<Value> = futures::future::join_all(rows).await;
            if global.json {
                output::json(&Value::Array(rows));
            } else {
                let show = |row: &Value| row_text(row);
                let rows: Vec<Vec<String>> = rows.iter().map(show).collect();
                output::table(&["NAME", "STATE", "PID", "ADDR", "HTTP", "UUID"], &rows, "no services");
            }
            Ok(0)
        })
    }
}

pub(super) async fn row(home: &Home, instance: &Instance, service: &Service, cluster: &Cluster) -> Value {
    let pid = if instance.separate {
        Process::recorded(&home.pid(&service.name)).map(|process| process.pid)
    } else {
        lock::holder(home)
    };
    let mut leader = Value::Null;
    if matches!(service.role.as_str(), "dir" | "mrc") {
        let leads = pid.is_some()
            && cluster
                .group(&service.addr)
                .await
                .is_ok_and(|group| group.leader == group.member && group.leader != 0);
        leader = Value::Bool(leads);
    }
    json!({
        "name": service.name,
        "role": service.role,
        "pid": pid,
        "uuid": service.uuid,
        "addr": service.addr,
        "http": service.http,
        "state": if pid.is_some() { "running" } else { "stopped" },
        "leader": leader,
    })
}

fn row_text(row: &Value) -> Vec<String> {
    let text = |key: &str| row[key].as_str().unwrap_or("").to_owned();
    let state = if row["leader"] == Value::Bool(true) { "running, leads".to_owned() } else { text("state") };
    let pid = row["pid"].as_i64().map_or_else(|| "-".to_owned(), |pid| pid.to_string());
    vec![text("name"), state, pid, text("addr"), text("http"), text("uuid")]
}
