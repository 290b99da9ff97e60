// amqp091-go: publish with deferred confirms, consume, acknowledge, call and reply, and the errors it shows.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const stepTimeout = 30 * time.Second

func url() string {
	if url := os.Getenv("AMQP_URL"); url != "" {
		return url
	}
	port := os.Getenv("AMQP_PORT")
	if port == "" {
		port = "5672"
	}
	return "amqp://guest:guest@127.0.0.1:" + port + "/"
}

// check carries the first deviation of a step out as a panic; `run` turns it into a failed step.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

func equal(got, want any, what string) {
	if !reflect.DeepEqual(got, want) {
		panic(fmt.Errorf("%s: got %v, want %v", what, got, want))
	}
}

func dial() *amqp.Connection {
	connection, err := amqp.Dial(url())
	check(err)
	return connection
}

func open(connection *amqp.Connection) *amqp.Channel {
	channel, err := connection.Channel()
	check(err)
	return channel
}

func exclusiveQueue(channel *amqp.Channel, arguments amqp.Table) string {
	queue, err := channel.QueueDeclare("", false, false, true, false, arguments)
	check(err)
	return queue.Name
}

func publish(channel *amqp.Channel, exchange, key string, message amqp.Publishing) {
	check(channel.PublishWithContext(context.Background(), exchange, key, false, false, message))
}

func receive[T any](source <-chan T, what string) T {
	select {
	case value, ok := <-source:
		if !ok {
			panic(errors.New(what + ": the channel was closed"))
		}
		return value
	case <-time.After(5 * time.Second):
		panic(errors.New(what + ": not within 5 s"))
	}
}

func propertiesComeBack() {
	connection := dial()
	defer connection.Close()
	channel := open(connection)
	queue := exclusiveQueue(channel, nil)
	headers := amqp.Table{
		"string": "grüße", "int32": int32(7), "int64": int64(1) << 40, "int16": int16(-3), "int8": int8(-1), "byte": byte(200),
		"float32": float32(1.5), "float64": 2.5, "bool": true, "nil": nil, "bytes": []byte{0, 255},
		"decimal": amqp.Decimal{Scale: 2, Value: 1234}, "time": time.Unix(1700000000, 0),
		"list": []any{"a", int32(1), nil}, "table": amqp.Table{"deep": amqp.Table{"er": "x"}},
	}
	sent := amqp.Publishing{
		Headers: headers, ContentType: "text/plain", ContentEncoding: "utf-8", DeliveryMode: amqp.Persistent, Priority: 4,
		CorrelationId: "c", ReplyTo: "r", Expiration: "60000", MessageId: "m", Timestamp: time.Unix(1700000000, 0),
		Type: "t", UserId: "guest", AppId: "a", Body: []byte("body"),
	}
	publish(channel, "", queue, sent)
	got, ok, err := channel.Get(queue, true)
	check(err)
	equal(ok, true, "a message")
	equal(amqp.Publishing{
		Headers: got.Headers, ContentType: got.ContentType, ContentEncoding: got.ContentEncoding, DeliveryMode: got.DeliveryMode,
		Priority: got.Priority, CorrelationId: got.CorrelationId, ReplyTo: got.ReplyTo, Expiration: got.Expiration,
		MessageId: got.MessageId, Timestamp: got.Timestamp, Type: got.Type, UserId: got.UserId, AppId: got.AppId, Body: got.Body,
	}, sent, "message")
	equal([]any{got.Exchange, got.RoutingKey, got.Redelivered}, []any{"", queue, false}, "delivery")
}

func deferredConfirms() {
	connection := dial()
	defer connection.Close()
	channel := open(connection)
	check(channel.Confirm(false))
	queue := exclusiveQueue(channel, nil)
	var confirms []*amqp.DeferredConfirmation
	for n := range 1000 {
		confirm, err := channel.PublishWithDeferredConfirmWithContext(context.Background(), "", queue, false, false,
			amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(strconv.Itoa(n))})
		check(err)
		confirms = append(confirms, confirm)
	}
	limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for n, confirm := range confirms {
		acked, err := confirm.WaitContext(limit)
		check(err)
		equal(acked, true, fmt.Sprintf("confirm %d", n))
		equal(confirm.DeliveryTag, uint64(n+1), "tag")
	}
	count, err := channel.QueuePurge(queue, false)
	check(err)
	equal(count, 1000, "purged")
}

func refusedAndReturned() {
	connection := dial()
	defer connection.Close()
	channel := open(connection)
	check(channel.Confirm(false))
	returns := channel.NotifyReturn(make(chan amqp.Return, 1))
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, 4))
	check(channel.PublishWithContext(context.Background(), "amq.direct", "nobody", true, false, amqp.Publishing{Body: []byte("home")}))
	returned := receive(returns, "return")
	equal([]any{returned.ReplyCode, returned.ReplyText, returned.RoutingKey, string(returned.Body)},
		[]any{uint16(312), "NO_ROUTE", "nobody", "home"}, "return")
	equal(receive(confirms, "confirm"), amqp.Confirmation{DeliveryTag: 1, Ack: true}, "confirm of the returned one")
	queue := exclusiveQueue(channel, amqp.Table{"x-max-length": int32(1), "x-overflow": "reject-publish"})
	publish(channel, "", queue, amqp.Publishing{})
	publish(channel, "", queue, amqp.Publishing{})
	equal(receive(confirms, "confirm"), amqp.Confirmation{DeliveryTag: 2, Ack: true}, "fits")
	equal(receive(confirms, "confirm"), amqp.Confirmation{DeliveryTag: 3, Ack: false}, "does not fit")
}

func consumeInOrder() {
	connection := dial()
	defer connection.Close()
	channel := open(connection)
	queue := exclusiveQueue(channel, nil)
	check(channel.Qos(20, 0, false))
	deliveries, err := channel.Consume(queue, "", false, false, false, false, nil)
	check(err)
	go func() {
		for n := range 2000 {
			_ = channel.PublishWithContext(context.Background(), "", queue, false, false, amqp.Publishing{Body: []byte(strconv.Itoa(n))})
		}
	}()
	for n := range 2000 {
		delivery := receive(deliveries, "delivery")
		equal(string(delivery.Body), strconv.Itoa(n), "order")
		if n%20 == 19 {
			check(delivery.Ack(true))
		}
	}
}

func redelivery() {
	connection := dial()
	defer connection.Close()
	channel := open(connection)
	queue := exclusiveQueue(channel, nil)
	for _, body := range []string{"a", "b"} {
		publish(channel, "", queue, amqp.Publishing{Body: []byte(body)})
	}
	worker := open(connection)
	first, _, err := worker.Get(queue, false)
	check(err)
	check(first.Nack(false, true))
	again, _, err := worker.Get(queue, false)
	check(err)
	equal([]any{string(again.Body), again.Redelivered}, []any{"a", true}, "after nack")
	check(worker.Close())
	again, _, err = channel.Get(queue, false)
	check(err)
	equal([]any{string(again.Body), again.Redelivered}, []any{"a", true}, "after the channel's end")
	check(again.Reject(false))
	fresh, _, err := channel.Get(queue, true)
	check(err)
	equal([]any{string(fresh.Body), fresh.Redelivered}, []any{"b", false}, "the next")
}

func topicsAndHeaders() {
	connection := dial()
	defer connection.Close()
	channel := open(connection)
	ohio := exclusiveQueue(channel, nil)
	check(channel.QueueBind(ohio, "#.ohio", "amq.topic", false, nil))
	pdf := exclusiveQueue(channel, nil)
	check(channel.QueueBind(pdf, "", "amq.headers", false, amqp.Table{"x-match": "any", "kind": "pdf", "pages": int32(3)}))
	check(channel.Confirm(false))
	for _, key := range []string{"news.ohio", "ohio", "news.ohio.x", "sports.us.ohio"} {
		publish(channel, "amq.topic", key, amqp.Publishing{Body: []byte(key)})
	}
	for _, kind := range []string{"pdf", "png"} {
		publish(channel, "amq.headers", "", amqp.Publishing{Headers: amqp.Table{"kind": kind}, Body: []byte(kind)})
	}
	for _, want := range []string{"news.ohio", "ohio", "sports.us.ohio"} {
		got, _, err := channel.Get(ohio, true)
		check(err)
		equal(string(got.Body), want, "topic")
	}
	got, _, err := channel.Get(pdf, true)
	check(err)
	equal([]any{string(got.Body), got.MessageCount}, []any{"pdf", uint32(0)}, "headers")
}

func callsAndReplies() {
	serving, calling := dial(), dial()
	defer serving.Close()
	defer calling.Close()
	server := open(serving)
	service, err := server.QueueDeclare(fmt.Sprintf("square-%d", time.Now().UnixNano()), false, true, false, false, nil)
	check(err)
	check(server.Qos(1, 0, false))
	requests, err := server.Consume(service.Name, "", false, false, false, false, nil)
	check(err)
	go func() {
		for request := range requests {
			n, _ := strconv.Atoi(string(request.Body))
			_ = server.PublishWithContext(context.Background(), "", request.ReplyTo, false, false, amqp.Publishing{
				CorrelationId: request.CorrelationId, Body: []byte(strconv.Itoa(n * n))})
			_ = request.Ack(false)
		}
	}()
	client := open(calling)
	for _, replyTo := range []string{"amq.rabbitmq.reply-to", exclusiveQueue(client, nil)} {
		replies, err := client.Consume(replyTo, "", true, false, false, false, nil)
		check(err)
		for n := range 50 {
			publish(client, "", service.Name, amqp.Publishing{CorrelationId: strconv.Itoa(n), ReplyTo: replyTo, Body: []byte(strconv.Itoa(n))})
		}
		for n := range 50 {
			reply := receive(replies, "reply")
			equal([]string{reply.CorrelationId, string(reply.Body)}, []string{strconv.Itoa(n), strconv.Itoa(n * n)}, "reply")
		}
	}
}

func channelErrors() {
	connection := dial()
	defer connection.Close()
	_, err := open(connection).QueueDeclarePassive("no-such-queue", false, false, false, false, nil)
	var refusal *amqp.Error
	equal(errors.As(err, &refusal), true, "an amqp.Error")
	equal([]any{refusal.Code, refusal.Reason, refusal.Server, refusal.Recover},
		[]any{404, "NOT_FOUND - no queue 'no-such-queue' in vhost '/'", true, true}, "passive declare")
	channel := open(connection)
	queue := fmt.Sprintf("differs-%d", time.Now().UnixNano())
	_, err = channel.QueueDeclare(queue, false, false, true, false, amqp.Table{"x-max-length": int32(5)})
	check(err)
	closed := channel.NotifyClose(make(chan *amqp.Error, 1))
	_, err = channel.QueueDeclare(queue, false, false, true, false, nil)
	equal(err.(*amqp.Error).Reason, "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue '"+queue+
		"' in vhost '/': received none but current is the value '5' of type 'signedint'", "redeclared")
	equal(receive(closed, "close").Code, 406, "notified")
	channel = open(connection)
	closed = channel.NotifyClose(make(chan *amqp.Error, 1))
	publish(channel, "no-such-exchange", "k", amqp.Publishing{})
	equal(receive(closed, "close").Reason, "NOT_FOUND - no exchange 'no-such-exchange' in vhost '/'", "publish")
	equal(connection.IsClosed(), false, "the connection lives on")
}

func connectionErrors() {
	config := amqp.Config{SASL: []amqp.Authentication{&amqp.PlainAuth{Username: "guest", Password: "wrong"}}}
	_, err := amqp.DialConfig(url(), config)
	equal(errors.Is(err, amqp.ErrCredentials), true, fmt.Sprintf("wrong password: %v", err))
	_, err = amqp.DialConfig(url(), amqp.Config{Vhost: "nowhere"})
	var refusal *amqp.Error
	equal(errors.As(err, &refusal), true, fmt.Sprintf("wrong vhost: %v", err))
	equal([]any{refusal.Code, refusal.Reason}, []any{530, "NOT_ALLOWED - vhost nowhere not found"}, "wrong vhost")
}

func cancelNotification() {
	connection, other := dial(), dial()
	defer connection.Close()
	defer other.Close()
	channel := open(connection)
	queue, err := channel.QueueDeclare(fmt.Sprintf("doomed-%d", time.Now().UnixNano()), false, false, false, false, nil)
	check(err)
	deliveries, err := channel.Consume(queue.Name, "tag", false, false, false, false, nil)
	check(err)
	cancelled := channel.NotifyCancel(make(chan string, 1))
	_, err = open(other).QueueDelete(queue.Name, false, false, false)
	check(err)
	equal(receive(cancelled, "cancel"), "tag", "cancelled")
	_, alive := <-deliveries
	equal(alive, false, "deliveries end")
}

func largeBodies() {
	connection := dial()
	defer connection.Close()
	channel := open(connection)
	queue := exclusiveQueue(channel, nil)
	body := bytes.Repeat([]byte("leveret "), 1<<19)
	publish(channel, "", queue, amqp.Publishing{Body: body})
	got, ok, err := channel.Get(queue, true)
	check(err)
	equal(ok && bytes.Equal(got.Body, body), true, "4 MiB")
}

func manyPublishers() {
	connection := dial()
	defer connection.Close()
	queue := exclusiveQueue(open(connection), nil)
	var group sync.WaitGroup
	for range 20 {
		group.Add(1)
		channel := open(connection)
		go func() {
			defer group.Done()
			check(channel.Confirm(false))
			for range 50 {
				confirm, err := channel.PublishWithDeferredConfirmWithContext(context.Background(), "", queue, false, false, amqp.Publishing{Body: []byte("x")})
				check(err)
				confirm.Wait()
			}
		}()
	}
	group.Wait()
	state, err := open(connection).QueueDeclarePassive(queue, false, false, true, false, nil)
	check(err)
	equal(state.Messages, 1000, "messages")
}

func transactions() {
	connection := dial()
	defer connection.Close()
	channel := open(connection)
	queue := exclusiveQueue(channel, nil)
	check(channel.Tx())
	publish(channel, "", queue, amqp.Publishing{Body: []byte("kept")})
	check(channel.TxCommit())
	publish(channel, "", queue, amqp.Publishing{Body: []byte("dropped")})
	check(channel.TxRollback())
	state, err := channel.QueueDeclarePassive(queue, false, false, true, false, nil)
	check(err)
	equal(state.Messages, 1, "messages")
}

// poisonMessages plays a consumer that gives the bad message back again and again: the quorum queue ends it.
func poisonMessages() {
	connection := dial()
	defer connection.Close()
	channel := open(connection)
	check(channel.Qos(1, 0, false))
	dead := exclusiveQueue(channel, nil)
	work := fmt.Sprintf("work-%d", time.Now().UnixNano())
	_, err := channel.QueueDeclare(work, true, false, false, false, amqp.Table{
		amqp.QueueTypeArg: amqp.QueueTypeQuorum, "x-delivery-limit": 2,
		"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead,
	})
	check(err)
	publish(channel, "", work, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte("poison")})
	deliveries, err := channel.Consume(work, "", false, false, false, false, nil)
	check(err)
	for failures := range 3 {
		delivery := receive(deliveries, "delivery")
		counted, _ := delivery.Headers["x-delivery-count"].(int64)
		equal(counted, int64(failures), "x-delivery-count")
		check(delivery.Reject(true))
	}
	letters, err := channel.Consume(dead, "", true, false, false, false, nil)
	check(err)
	letter := receive(letters, "dead letter")
	death := letter.Headers["x-death"].([]any)[0].(amqp.Table)
	equal([]any{string(letter.Body), death["reason"], death["queue"]}, []any{"poison", "delivery_limit", work}, "death")
	_, err = channel.QueueDelete(work, false, false, false)
	check(err)
}

// streamOffsets reads a stream twice: all of it, and from an offset on.
func streamOffsets() {
	connection := dial()
	defer connection.Close()
	channel := open(connection)
	check(channel.Qos(10, 0, false))
	check(channel.Confirm(false))
	stream := fmt.Sprintf("stream-%d", time.Now().UnixNano())
	_, err := channel.QueueDeclare(stream, true, false, false, false, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeStream})
	check(err)
	for n := range 50 {
		confirm, err := channel.PublishWithDeferredConfirmWithContext(context.Background(), "", stream, false, false,
			amqp.Publishing{Body: []byte(strconv.Itoa(n))})
		check(err)
		equal(confirm.Wait(), true, "confirm")
	}
	for tag, first := range map[string]int{"all": 0, "some": 42} {
		deliveries, err := channel.Consume(stream, tag, false, false, false, false, amqp.Table{"x-stream-offset": int64(first)})
		check(err)
		for offset := first; offset < 50; offset++ {
			delivery := receive(deliveries, "delivery")
			equal([]any{delivery.Headers["x-stream-offset"], string(delivery.Body)},
				[]any{int64(offset), strconv.Itoa(offset)}, tag)
			check(delivery.Ack(false))
		}
		check(channel.Cancel(tag, false))
	}
	_, err = channel.QueueDelete(stream, false, false, false)
	check(err)
}

func run(title string, step func()) (ok bool) {
	done := make(chan any, 1)
	go func() {
		defer func() { done <- recover() }()
		step()
	}()
	var failure any
	select {
	case failure = <-done:
	case <-time.After(stepTimeout):
		failure = fmt.Sprintf("no answer within %v", stepTimeout)
	}
	if failure != nil {
		fmt.Printf("FAILED amqp091-go: %s: %v\n", title, failure)
		return false
	}
	fmt.Printf("ok amqp091-go: %s\n", title)
	return true
}

func main() {
	passed, failed := 0, 0
	for _, step := range []struct {
		title string
		run   func()
	}{
		{"properties of every type come back", propertiesComeBack},
		{"deferred confirms cover every message", deferredConfirms},
		{"full queues refuse, mandatory messages return", refusedAndReturned},
		{"two thousand messages keep their order", consumeInOrder},
		{"redelivery is flagged and keeps the place", redelivery},
		{"topics and headers route", topicsAndHeaders},
		{"calls and replies", callsAndReplies},
		{"channel errors carry code and text", channelErrors},
		{"bad credentials and vhosts are told", connectionErrors},
		{"a deleted queue cancels its consumer", cancelNotification},
		{"large bodies arrive whole", largeBodies},
		{"twenty channels publish at once", manyPublishers},
		{"transactions commit and roll back", transactions},
		{"a quorum queue ends a poison message", poisonMessages},
		{"a stream is read from an offset", streamOffsets},
	} {
		if run(step.title, step.run) {
			passed++
		} else {
			failed++
		}
	}
	fmt.Printf("amqp091-go: %d passed, %d failed\n", passed, failed)
	if failed > 0 || passed == 0 {
		os.Exit(1)
	}
}
