// rabbit-hole, the Go client of the management API that Terraform's provider is built on: looks at everything, declares, binds,
// deletes.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	rabbithole "github.com/michaelklishin/rabbit-hole/v2"
)

// Names are this run's own.
var id = strconv.FormatInt(time.Now().UnixNano(), 36)

var queue, exchange = "hole-" + id, "hole.topic-" + id

func client() *rabbithole.Client {
	host, port := os.Getenv("AMQP_HOST"), os.Getenv("MGMT_PORT")
	if host == "" {
		host = "127.0.0.1"
	}
	if port == "" {
		port = "15672"
	}
	client, err := rabbithole.NewClient("http://"+host+":"+port, "guest", "guest")
	check(err)
	return client
}

// check carries the first deviation of a step out as a panic; `main` turns it into a failed step.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

func equal(got, want any, what string) {
	if got != want {
		panic(fmt.Errorf("%s: got %v, want %v", what, got, want))
	}
}

func got[T any](value T, err error) T {
	check(err)
	return value
}

func listsAreRead() {
	c := client()
	overview := got(c.Overview())
	equal(got(c.GetNode(overview.Node)).Name, overview.Node, "node")
	equal(len(got(c.ListNodes())), 1, "nodes")
	got(c.ListConnections())
	got(c.ListChannels())
	got(c.ListConsumers())
	got(c.ListQueues())
	got(c.ListExchanges())
	got(c.ListBindings())
	got(c.ListVhosts())
	got(c.ListUsers())
	got(c.ListPermissions())
	got(c.ListPolicies())
	got(c.ListDefinitions())
	got(c.ListFeatureFlags())
	equal(got(c.HealthCheckAlarms()).Status, "ok", "alarms")
}

func whatIsDeclaredIsThere() {
	c := client()
	got(c.DeclareQueue("/", queue, rabbithole.QueueSettings{Type: "quorum", Durable: true}))
	got(c.DeclareExchange("/", exchange, rabbithole.ExchangeSettings{Type: "topic", Durable: true}))
	found := got(c.GetQueue("/", queue))
	equal(found.Type, "quorum", "type")
	equal(found.Durable, true, "durable")
	equal(got(c.GetExchange("/", exchange)).Type, "topic", "type of the exchange")
}

func bindingsComeAndGo() {
	c := client()
	binding := rabbithole.BindingInfo{
		Source: exchange, Destination: queue, DestinationType: "queue", RoutingKey: "a.#",
		Arguments: map[string]interface{}{"x": "y"},
	}
	got(c.DeclareBinding("/", binding))
	binding.RoutingKey, binding.Arguments = "b c", nil
	got(c.DeclareBinding("/", binding))
	bound := got(c.ListQueueBindingsBetween("/", exchange, queue))
	equal(len(bound), 2, "bindings")
	for _, binding := range bound {
		equal(got(c.DeleteBinding("/", binding)).StatusCode, 204, "deleting "+binding.PropertiesKey)
	}
	equal(len(got(c.ListQueueBindingsBetween("/", exchange, queue))), 0, "bindings that are left")
}

func whatIsDeletedIsGone() {
	c := client()
	got(c.DeleteQueue("/", queue))
	got(c.DeleteExchange("/", exchange))
	_, err := c.GetQueue("/", queue)
	answer, is := err.(rabbithole.ErrorResponse)
	equal(is && answer.StatusCode == 404, true, fmt.Sprint("404 for a queue that is gone: ", err))
}

type step struct {
	title string
	run   func()
}

func try(step step) (why any) {
	defer func() { why = recover() }()
	step.run()
	return nil
}

func main() {
	passed, failed := 0, 0
	for _, step := range []step{
		{"lists are read", listsAreRead},
		{"what is declared is there", whatIsDeclaredIsThere},
		{"bindings come and go", bindingsComeAndGo},
		{"what is deleted is gone", whatIsDeletedIsGone},
	} {
		if why := try(step); why != nil {
			failed++
			fmt.Printf("FAILED rabbit-hole: %s: %v\n", step.title, why)
		} else {
			passed++
			fmt.Printf("ok rabbit-hole: %s\n", step.title)
		}
	}
	fmt.Printf("rabbit-hole: %d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
