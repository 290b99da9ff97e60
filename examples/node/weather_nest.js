// Calls the weather service with NestJS, as if it were a Nest microservice.
//
//     node weather_nest.js CITY...
'use strict';

require('reflect-metadata');
const { ClientProxyFactory, Transport } = require('@nestjs/microservices');
const { firstValueFrom, timeout } = require('rxjs');

const url = process.env.AMQP_URL || 'amqp://guest:guest@127.0.0.1:5672/%2F';

async function main() {
  const client = ClientProxyFactory.create({
    transport: Transport.RMQ,
    options: { urls: [url], queue: 'weather', queueOptions: { durable: true } },
  });
  await client.connect();
  for (const city of process.argv.slice(2)) {
    try {
      const forecast = await firstValueFrom(client.send({ cmd: 'forecast' }, { city }).pipe(timeout(10_000)));
      console.log(`${city}: ${forecast.sky}, ${forecast.celsius} °C`);
    } catch (error) {
      console.log(`${city}: ${error.code}: ${error.message}`);
    }
  }
  await client.close();
}

main();
