//! One look at a broker.

use serde_json::{Value, json};

use crate::management::{Management, ManagementError, Path};

/// What the columns and the details need; a broker with 10,000 queues sends a few megabytes less.
const QUEUE_COLUMNS: &str = "vhost,name,type,state,messages,messages_ready,messages_unacknowledged,consumers,\
    message_stats,memory,policy,durable,auto_delete,exclusive,arguments,idle_since";
const CONNECTION_COLUMNS: &str = "name,user_provided_name,user,vhost,state,channels,protocol,ssl,peer_host,peer_port,\
    recv_oct,send_oct,recv_oct_details,send_oct_details,connected_at,client_properties,timeout,frame_max";

/// What there was at one time.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    pub(super) overview: Value,
    /// Empty for users who may not see nodes.
    pub(super) nodes: Vec<Value>,
    pub(super) queues: Vec<Value>,
    pub(super) connections: Vec<Value>,
    /// `None` where the broker does not know of services: a RabbitMQ.
    pub(super) services: Option<Vec<Value>>,
}

/// Looks.
///
/// # Errors
/// As every request; nodes and services may be missing.
pub(super) async fn sample(management: &Management) -> Result<Sample, ManagementError> {
    Ok(Sample {
        overview: management.get(&Path::of(&["overview"])).await?,
        nodes: nodes(management).await?,
        queues: management.get(&Path::of(&["queues"]).query("columns", QUEUE_COLUMNS)).await?,
        connections: management.get(&Path::of(&["connections"]).query("columns", CONNECTION_COLUMNS)).await?,
        services: management.find(&Path::of(&["services"])).await?,
    })
}

async fn nodes(management: &Management) -> Result<Vec<Value>, ManagementError> {
    match management.get(&Path::of(&["nodes"])).await {
        Err(ManagementError::Unauthorized { .. }) => Ok(Vec::new()),
        other => other,
    }
}

impl Sample {
    /// All of it, as the API has it.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "overview": self.overview,
            "nodes": self.nodes,
            "queues": self.queues,
            "connections": self.connections,
            "services": self.services,
        })
    }
}
