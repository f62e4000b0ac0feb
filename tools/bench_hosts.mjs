// Steps a model of WebAssembly for tools/bench_hosts.py: node bench_hosts.mjs MODULE.mjs, then a line for each request on stdin.
//   verify [[x, …], …]   prints the outputs of a sequence from its start, [[y, …], …]
//   time COUNT           prints the nanoseconds of COUNT steps with the last inputs
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const { info, load } = await import(pathToFileURL(process.argv[2]));
const model = await load();
const state = model.allocate(model.exports[`${info.name}_state_size`]()).address;
const [x, y] = [info.inputs[0], info.outputs[0]].map((port) => model.place(port, 1));
const step = model.exports[`${info.name}_step`];
model.exports[`${info.name}_init`](state);

for await (const line of createInterface({ input: process.stdin })) {
  const [word, rest] = [line.slice(0, line.indexOf(" ")), JSON.parse(line.slice(line.indexOf(" ")))];
  if (word === "verify") {
    model.exports[`${info.name}_reset`](state);
    const found = rest.map((frame) => {
      x.view().set(frame);
      step(state, x.address, y.address);
      return [...y.view()];
    });
    console.log(JSON.stringify(found));
  } else {
    const begin = process.hrtime.bigint();
    for (let k = 0; k < rest; k++) {
      step(state, x.address, y.address);
    }
    console.log(String(process.hrtime.bigint() - begin));
  }
}
