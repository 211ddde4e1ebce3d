// Drives the stock npm client: one JSON command a line on stdin, one JSON event a line on stdout.
// Usage: node driver.mjs URL. The first command is {"do": "connect", "tokens": [...]}: the tokens that the
// application would fetch, one after the other; without it the client has none.
import { createInterface } from "node:readline";
import { Centrifuge } from "centrifuge";

const tell = (event, fields = {}) => process.stdout.write(JSON.stringify({ event, ...fields }) + "\n");

let client;
const actions = {
  connect({ tokens }) {
    const options = { minReconnectDelay: 10, maxReconnectDelay: 50 };
    if (tokens) {
      options.getToken = async () => tokens.shift() ?? "";
    }
    client = new Centrifuge(process.argv[2], options);
    client.on("connected", ({ client: id }) => tell("connected", { id }));
    client.on("connecting", ({ code, reason }) => tell("connecting", { code, reason }));
    client.on("disconnected", ({ code, reason }) => tell("disconnected", { code, reason }));
    client.on("error", ({ error }) => tell("error", { code: error.code }));
    client.connect();
  },
  subscribe({ channel }) {
    const sub = client.newSubscription(channel, { minResubscribeDelay: 10, maxResubscribeDelay: 50 });
    sub.on("subscribed", () => tell("subscribed", { channel }));
    sub.on("subscribing", ({ code }) => tell("subscribing", { channel, code }));
    sub.on("unsubscribed", ({ code }) => tell("unsubscribed", { channel, code }));
    sub.on("publication", ({ data, info }) => tell("publication", { channel, data, user: info?.user }));
    sub.subscribe();
  },
  unsubscribe({ channel }) {
    client.getSubscription(channel).unsubscribe();
  },
  publish({ channel, data }) {
    client.publish(channel, data).then(
      () => tell("published", { channel }),
      ({ code }) => tell("refused", { channel, code }),
    );
  },
  disconnect() {
    client.disconnect();
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  actions[command.do](command);
}
client?.disconnect();
