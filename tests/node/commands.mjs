// What tests have the stock npm client do, in Node and in browsers, and what it tells. Events have the names and the
// fields of the client's own. A command with `call` is answered by `{"event": "result", "call", "value"}` or
// `{"event": "failed", "call", "code"}`.

// Gives `handle`, which takes a command, and `stop`; `say` is given each event.
export function driver(Centrifuge, say) {
  const tell = (event, fields = {}) => say({ event, ...fields });
  const forward = (emitter, names) => {
    for (const name of names) {
      emitter.on(name, (context) => tell(name, context));
    }
  };

  let client;
  const subscription = (channel) => client.getSubscription(channel);

  // What answers to `call`.
  const calls = {
    publish: ({ channel, data }) => client.publish(channel, data),
    presence: ({ channel }) => client.presence(channel),
    presenceStats: ({ channel }) => client.presenceStats(channel),
    history: ({ channel, options }) => client.history(channel, options),
    rpc: ({ method, data }) => client.rpc(method, data),
    send: ({ data }) => client.send(data),
  };

  const actions = {
    // `endpoint` is a URL or a list of transports; `tokens` are those that the application would fetch, in turn.
    connect({ endpoint, options, tokens }) {
      const all = { minReconnectDelay: 10, maxReconnectDelay: 50, ...options };
      if (tokens) {
        all.getToken = async () => {
          tell("token");
          return tokens.shift() ?? "";
        };
      }
      client = new Centrifuge(endpoint, all);
      forward(client, ["connected", "connecting", "disconnected", "subscribed", "subscribing", "unsubscribed"]);
      forward(client, ["publication", "join", "leave", "message"]);
      client.on("error", ({ type, error }) => tell("error", { type, code: error.code }));
      client.connect();
    },
    disconnect() {
      client.disconnect();
    },
    subscribe({ channel, options, tokens }) {
      const all = { minResubscribeDelay: 10, maxResubscribeDelay: 50, ...options };
      if (tokens) {
        all.getToken = async () => {
          tell("subscription token", { channel });
          return tokens.shift() ?? "";
        };
      }
      const sub = client.newSubscription(channel, all);
      forward(sub, ["subscribed", "subscribing", "unsubscribed", "publication", "join", "leave"]);
      sub.on("error", ({ type, error }) => tell("subscription error", { channel, type, code: error.code }));
      sub.subscribe();
    },
    unsubscribe({ channel }) {
      subscription(channel).unsubscribe();
    },
  };

  return {
    handle({ do: name, call, ...fields }) {
      if (name in actions) {
        actions[name](fields);
      } else {
        calls[name](fields).then(
          (value) => tell("result", { call, value }),
          ({ code }) => tell("failed", { call, code }),
        );
      }
    },
    stop() {
      client?.disconnect();
    },
  };
}
