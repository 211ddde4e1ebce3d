// Drives the stock npm client for the conformance suite: one JSON command a line on stdin, one JSON event a line on
// stdout; see commands.mjs.
// Usage: node --experimental-eventsource conformance.mjs
import { createInterface } from "node:readline";
import { Centrifuge } from "centrifuge";
import { driver } from "./commands.mjs";

const { handle, stop } = driver(Centrifuge, (event) => process.stdout.write(JSON.stringify(event) + "\n"));

for await (const line of createInterface({ input: process.stdin })) {
  handle(JSON.parse(line));
}
stop();
