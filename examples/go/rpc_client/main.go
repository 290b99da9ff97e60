// The tutorial's RPC client: an exclusive callback queue, a correlation id per call.
//
//	go run ./rpc_client N...
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func main() {
	url := os.Getenv("AMQP_URL")
	if url == "" {
		url = "amqp://guest:guest@127.0.0.1:5672/%2F"
	}
	connection, err := amqp.Dial(url)
	check(err)
	defer connection.Close()
	channel, err := connection.Channel()
	check(err)
	callback, err := channel.QueueDeclare("", false, false, true, false, nil)
	check(err)
	answers, err := channel.Consume(callback.Name, "", true, true, false, false, nil)
	check(err)
	for number, n := range os.Args[1:] {
		fmt.Printf(" [x] Requesting fib(%s)\n", n)
		id := strconv.Itoa(number)
		check(channel.PublishWithContext(context.Background(), "", "rpc_queue", false, false,
			amqp.Publishing{CorrelationId: id, ReplyTo: callback.Name, Body: []byte(n)}))
		show(await(answers, id))
	}
}

func await(answers <-chan amqp.Delivery, id string) amqp.Delivery {
	timeout := time.After(10 * time.Second)
	for {
		select {
		case answer := <-answers:
			if answer.CorrelationId == id {
				return answer
			}
		case <-timeout:
			log.Fatal("no answer within 10 s")
		}
	}
}

func show(answer amqp.Delivery) {
	status, known := answer.Headers["rpc-status"] // only a worker that knows these headers sends them
	if !known || status == "OK" {
		fmt.Printf(" [.] Got %s\n", answer.Body)
	} else {
		fmt.Printf(" [!] %v: %v\n", status, answer.Headers["rpc-error"])
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
