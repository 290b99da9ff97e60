// The tutorial's RPC server: Fibonacci numbers from rpc_queue, one at a time.
//
//	go run ./rpc_server
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"

	amqp "github.com/rabbitmq/amqp091-go"
)

func main() {
	url := os.Getenv("AMQP_URL")
	if url == "" {
		url = "amqp://guest:guest@127.0.0.1:5672/%2F"
	}
	connection, err := amqp.Dial(url)
	check(err)
	channel, err := connection.Channel()
	check(err)
	_, err = channel.QueueDeclare("rpc_queue", true, false, false, false, nil)
	check(err)
	check(channel.Qos(1, 0, false))
	requests, err := channel.Consume("rpc_queue", "", false, false, false, false, nil)
	check(err)
	fmt.Println(" [x] Awaiting RPC requests")
	for request := range requests {
		answer := answer(string(request.Body))
		answer.CorrelationId = request.CorrelationId
		check(channel.PublishWithContext(context.Background(), "", request.ReplyTo, false, false, answer))
		check(request.Ack(false))
	}
}

func answer(body string) amqp.Publishing {
	n, err := strconv.Atoi(body)
	fmt.Printf(" [.] fib(%d)\n", n)
	if err != nil || n < 0 {
		// Two headers, and callers that know them see an error.
		return amqp.Publishing{Headers: amqp.Table{"rpc-status": "INVALID_ARGUMENT", "rpc-error": "there is no fib(" + body + ")"}}
	}
	return amqp.Publishing{Body: []byte(strconv.Itoa(fib(n)))}
}

func fib(n int) int {
	if n < 2 {
		return n
	}
	return fib(n-1) + fib(n-2)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
