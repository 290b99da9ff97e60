//! Whether a queue works, is out of service, or is gone.

use std::sync::Arc;

use crate::error::Refusal;
use crate::port::ChannelPort;
use crate::queue::Rule;
use crate::vhost::Queue;

/// Whether a queue still works.
#[derive(Debug)]
pub enum Life {
    /// It does.
    Alive(Rule<Arc<ChannelPort>>),
    /// A stored message of it cannot be read (file and offset are named): it takes and gives nothing, so that
    /// nothing is delivered out of order or silently missing. What is on disk is kept.
    Damaged(String, Box<Rule<Arc<ChannelPort>>>),
    /// It was deleted.
    Gone,
}

impl Life {
    /// The rule, unless the queue is gone or damaged.
    pub fn rule(&mut self) -> Option<&mut Rule<Arc<ChannelPort>>> {
        match self {
            Self::Alive(state) => Some(state),
            Self::Damaged(..) | Self::Gone => None,
        }
    }

    /// What the queue holds, also while it is out of service: its readable messages move on with the log (P7).
    pub fn content(&mut self) -> Option<&mut Rule<Arc<ChannelPort>>> {
        match self {
            Self::Alive(state) => Some(state),
            Self::Damaged(_, state) => Some(state),
            Self::Gone => None,
        }
    }

    /// Takes the queue out of service.
    pub(crate) fn take_offline(&mut self, what: String) {
        *self = match std::mem::replace(self, Self::Gone) {
            Self::Alive(state) => Self::Damaged(what, Box::new(state)),
            other => other,
        };
    }

    /// The rule, or why there is none.
    pub fn alive(&mut self, queue: &Queue) -> Result<&mut Rule<Arc<ChannelPort>>, Refusal> {
        match self {
            Self::Alive(state) => Ok(state),
            Self::Damaged(what, _) => {
                Err(Refusal::internal(format!("{} is offline: {what}", queue.described())))
            }
            Self::Gone => Err(Refusal::not_found(format!("no {}", queue.described()))),
        }
    }
}
