// The page of the conformance suite: `handle` does what commands.mjs says, and what browsers do without a library;
// `tell`, which the test's browser has, is given one JSON event each time. `ready` comes first.
import { driver } from "./commands.mjs";

const tell = (event) => globalThis.tell(JSON.stringify(event));
const { handle } = driver(globalThis.Centrifuge, tell);
const sources = [];

// With these options the client sends cookies to other origins over its other transports too.
const credentials = {
  fetch: (url, options) => fetch(url, { ...options, credentials: "include" }),
  eventsource: class extends EventSource {
    constructor(url) {
      super(url, { withCredentials: true });
    }
  },
};

const actions = {
  // An EventSource: `opened`, `message` and `reset`, and `ended` with whether it comes back by itself.
  listen({ url, withCredentials = false }) {
    const source = new EventSource(url, { withCredentials });
    source.onopen = () => tell({ event: "opened" });
    for (const name of ["message", "reset"]) {
      source.addEventListener(name, ({ data, lastEventId }) =>
        tell({ event: name, data: JSON.parse(data), id: lastEventId }),
      );
    }
    source.onerror = () => tell({ event: "ended", returns: source.readyState === EventSource.CONNECTING });
    sources.push(source); // nothing else keeps it from being collected
  },
  // A WebSocket that sends one message once it is open: `opened`, `message`, `closed`.
  dial({ url, protocols, message }) {
    const socket = new WebSocket(url, protocols);
    socket.onopen = () => {
      tell({ event: "opened", protocol: socket.protocol });
      socket.send(JSON.stringify(message));
    };
    socket.onmessage = ({ data }) => tell({ event: "message", data: JSON.parse(data) });
    socket.onclose = ({ code }) => tell({ event: "closed", code });
    sources.push(socket);
  },
  // The client, with cookies if `withCredentials` is set.
  connect({ withCredentials, ...fields }) {
    handle({ do: "connect", ...fields, options: { ...fields.options, ...(withCredentials ? credentials : {}) } });
  },
};

globalThis.handle = (command) => (actions[command.do] ?? handle)(command);
tell({ event: "ready" });
