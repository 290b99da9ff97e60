//! From wire methods to operations of the broker and back: translation, no rules.

use leveret_broker::ops::bind::Bind;
use leveret_broker::ops::consume::Consume;
use leveret_broker::ops::exchange::DeclareExchange;
use leveret_broker::ops::queue::DeclareQueue;
use leveret_broker::ops::settle::Settlement;
use leveret_broker::{Batch, Refusal, read_arguments};
use leveret_wire::method::*;
use leveret_wire::{Method, ReplyCode};

use super::running::Running;

impl Running {
    /// Does what a method on an open channel asks for. `basic.publish` and `channel.close` are not among them.
    pub(super) fn dispatch(
        &mut self,
        number: u16,
        method: &Method<'_>,
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
        match method.class_id() {
            40 => self.exchange_method(number, method, batch),
            50 => self.queue_method(number, method, batch),
            60 => self.basic_method(number, method, batch),
            _ => self.other_method(number, method, batch),
        }
    }

    fn exchange_method(
        &mut self,
        number: u16,
        method: &Method<'_>,
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
        let connection = self.connection.clone();
        let (nowait, ok) = match method {
            Method::ExchangeDeclare(declare) => {
                connection.declare_exchange(DeclareExchange {
                    name: declare.exchange,
                    kind: declare.kind,
                    passive: declare.passive,
                    durable: declare.durable,
                    auto_delete: declare.auto_delete,
                    internal: declare.internal,
                    arguments: read_arguments(declare.arguments)?,
                })?;
                (declare.nowait, Method::ExchangeDeclareOk(ExchangeDeclareOk))
            }
            Method::ExchangeDelete(delete) => {
                connection.delete_exchange(delete.exchange, delete.if_unused)?;
                (delete.nowait, Method::ExchangeDeleteOk(ExchangeDeleteOk))
            }
            Method::ExchangeBind(bind) => {
                let binding = Bind {
                    source: bind.source,
                    destination: bind.destination,
                    routing_key: bind.routing_key,
                    arguments: read_arguments(bind.arguments)?,
                };
                connection.bind_exchange(binding, batch)?;
                (bind.nowait, Method::ExchangeBindOk(ExchangeBindOk))
            }
            Method::ExchangeUnbind(unbind) => {
                connection.unbind_exchange(Bind {
                    source: unbind.source,
                    destination: unbind.destination,
                    routing_key: unbind.routing_key,
                    arguments: read_arguments(unbind.arguments)?,
                })?;
                (unbind.nowait, Method::ExchangeUnbindOk(ExchangeUnbindOk))
            }
            _ => return Err(not_for_servers()),
        };
        self.topology_ok(number, nowait, &ok);
        Ok(())
    }

    fn queue_method(&mut self, number: u16, method: &Method<'_>, batch: &mut Batch) -> Result<(), Refusal> {
        let Some(channel) = self.channel(number) else { return Ok(()) };
        match method {
            Method::QueueDeclare(declare) => {
                let declared = channel.declare_queue(
                    DeclareQueue {
                        name: declare.queue,
                        passive: declare.passive,
                        durable: declare.durable,
                        exclusive: declare.exclusive,
                        auto_delete: declare.auto_delete,
                        arguments: read_arguments(declare.arguments)?,
                    },
                    batch,
                )?;
                let ok = QueueDeclareOk {
                    queue: &declared.name,
                    message_count: count(declared.messages),
                    consumer_count: declared.consumers,
                };
                self.topology_ok(number, declare.nowait, &Method::QueueDeclareOk(ok));
            }
            Method::QueueBind(bind) => {
                let binding = Bind {
                    source: bind.exchange,
                    destination: bind.queue,
                    routing_key: bind.routing_key,
                    arguments: read_arguments(bind.arguments)?,
                };
                channel.bind_queue(binding, batch)?;
                self.topology_ok(number, bind.nowait, &Method::QueueBindOk(QueueBindOk));
            }
            Method::QueueUnbind(unbind) => {
                channel.unbind_queue(Bind {
                    source: unbind.exchange,
                    destination: unbind.queue,
                    routing_key: unbind.routing_key,
                    arguments: read_arguments(unbind.arguments)?,
                })?;
                self.topology_ok(number, false, &Method::QueueUnbindOk(QueueUnbindOk));
            }
            Method::QueuePurge(purge) => {
                let message_count = count(channel.purge_queue(purge.queue)?);
                self.ok(number, purge.nowait, &Method::QueuePurgeOk(QueuePurgeOk { message_count }));
            }
            Method::QueueDelete(delete) => {
                let deleted = channel.delete_queue(delete.queue, delete.if_unused, delete.if_empty, batch)?;
                let ok = QueueDeleteOk { message_count: count(deleted) };
                self.topology_ok(number, delete.nowait, &Method::QueueDeleteOk(ok));
            }
            _ => return Err(not_for_servers()),
        }
        Ok(())
    }

    fn basic_method(&mut self, number: u16, method: &Method<'_>, batch: &mut Batch) -> Result<(), Refusal> {
        let outbox = self.outbox.clone();
        let Some(channel) = self.channel(number) else { return Ok(()) };
        match method {
            Method::BasicAck(ack) => channel.settle(ack.delivery_tag, ack.multiple, Settlement::Ack, batch),
            Method::BasicNack(nack) => {
                channel.settle(nack.delivery_tag, nack.multiple, refused(nack.requeue, false), batch)
            }
            Method::BasicReject(reject) => {
                channel.settle(reject.delivery_tag, false, refused(reject.requeue, true), batch)
            }
            Method::BasicRecover(recover) => {
                channel.recover(recover.requeue, batch)?;
                outbox.send(number, &Method::BasicRecoverOk(BasicRecoverOk));
                Ok(())
            }
            Method::BasicRecoverAsync(recover) => channel.recover(recover.requeue, batch),
            Method::BasicQos(qos) => {
                channel.limit_prefetch(qos.prefetch_size, qos.prefetch_count, qos.global, batch)?;
                outbox.send(number, &Method::BasicQosOk(BasicQosOk));
                Ok(())
            }
            Method::BasicConsume(consume) => {
                let started = Consume {
                    queue: consume.queue,
                    consumer_tag: consume.consumer_tag,
                    no_ack: consume.no_ack,
                    exclusive: consume.exclusive,
                    arguments: read_arguments(consume.arguments)?,
                };
                let consumer_tag = channel.consume(started, batch.now_ms)?;
                if !consume.nowait {
                    let ok = BasicConsumeOk { consumer_tag: &consumer_tag };
                    outbox.send(number, &Method::BasicConsumeOk(ok));
                }
                channel.start_deliveries(&consumer_tag, batch)
            }
            Method::BasicCancel(cancel) => {
                let consumer_tag = cancel.consumer_tag;
                channel.cancel(consumer_tag, batch);
                if !cancel.nowait {
                    outbox.send(number, &Method::BasicCancelOk(BasicCancelOk { consumer_tag }));
                }
                Ok(())
            }
            // The answer of a client that was told its consumer is gone.
            Method::BasicCancelOk(_) => Ok(()),
            Method::BasicGet(get) => self.get(number, get, batch),
            _ => Err(not_for_servers()),
        }
    }

    fn get(&mut self, number: u16, get: &BasicGet<'_>, batch: &mut Batch) -> Result<(), Refusal> {
        let outbox = self.outbox.clone();
        let Some(channel) = self.channel(number) else { return Ok(()) };
        let Some(got) = channel.get(get.queue, get.no_ack, batch)? else {
            outbox.send(number, &Method::BasicGetEmpty(BasicGetEmpty { cluster_id: "" }));
            return Ok(());
        };
        let message = got.message.view();
        let ok = BasicGetOk {
            delivery_tag: got.delivery_tag,
            redelivered: got.redelivered,
            exchange: message.exchange,
            routing_key: message.routing_key,
            message_count: count(got.remaining),
        };
        outbox.send_content(number, &Method::BasicGetOk(ok), &message);
        Ok(())
    }

    fn other_method(&mut self, number: u16, method: &Method<'_>, batch: &mut Batch) -> Result<(), Refusal> {
        let outbox = self.outbox.clone();
        let Some(channel) = self.channel(number) else { return Ok(()) };
        match method {
            Method::ConfirmSelect(select) => {
                channel.select_confirms()?;
                self.ok(number, select.nowait, &Method::ConfirmSelectOk(ConfirmSelectOk));
            }
            Method::TxSelect(_) => {
                channel.select_tx()?;
                outbox.send(number, &Method::TxSelectOk(TxSelectOk));
            }
            Method::TxRollback(_) => {
                channel.rollback()?;
                outbox.send(number, &Method::TxRollbackOk(TxRollbackOk));
            }
            Method::TxCommit(_) => {
                let position = channel.commit(batch)?;
                self.reply_when_durable(number, position, &Method::TxCommitOk(TxCommitOk));
            }
            Method::ChannelFlow(flow) if flow.active => {
                outbox.send(number, &Method::ChannelFlowOk(ChannelFlowOk { active: true }));
            }
            Method::ChannelFlow(_) => return Err(Refusal::not_implemented("active=false")),
            Method::ChannelFlowOk(_) => {}
            // A leftover of AMQP 0-8 that old clients still send.
            Method::AccessRequest(_) => {
                outbox.send(number, &Method::AccessRequestOk(AccessRequestOk { ticket: 1 }));
            }
            _ => return Err(not_for_servers()),
        }
        Ok(())
    }

    fn ok(&self, number: u16, nowait: bool, method: &Method<'_>) {
        if !nowait {
            self.outbox.send(number, method);
        }
    }

    /// P2: the answer to a change of the topology says that the change is on the disk.
    fn topology_ok(&mut self, number: u16, nowait: bool, method: &Method<'_>) {
        if !nowait {
            let position = self.shared.broker.topology_position();
            self.reply_when_durable(number, position, method);
        }
    }
}

/// `failed`: the consumer says that it tried.
fn refused(requeue: bool, failed: bool) -> Settlement {
    if requeue { Settlement::Requeue { failed } } else { Settlement::Discard }
}

/// Counts on the wire have 32 bits.
fn count(messages: u64) -> u32 {
    u32::try_from(messages).unwrap_or(u32::MAX)
}

/// A method that only servers send.
fn not_for_servers() -> Refusal {
    Refusal::new(ReplyCode::COMMAND_INVALID, "unimplemented method")
}
