// SPDX-License-Identifier: Apache-2.0
// @NAME@ @VERSION@: the model in WebAssembly, for browsers and Node.js. The file @NAME@.wasm lies beside this one.
// The licence is that of the code. The numbers in the .wasm come from a trained model, whose owner keeps all rights to them.

/** The inputs and outputs: an integer q is worth (q + offset) * scale, where |q| <= limit; tokens have no scale. */
export const info = @INFO@;

const ARRAYS = { int16_t: Int16Array, int32_t: Int32Array, uint16_t: Uint16Array, uint32_t: Uint32Array };

/**
 * Load the model. `source` is the .wasm: a URL, its bytes or a compiled WebAssembly.Module; the file beside this module when left out.
 * One model serves any number of streams.
 */
export async function load(source = new URL("./@NAME@.wasm", import.meta.url)) {
  let module = source;
  if (!(module instanceof WebAssembly.Module)) {
    const bytes = source instanceof URL || typeof source === "string" ? await read(new URL(source, import.meta.url)) : source;
    module = await WebAssembly.compile(bytes);
  }
  return new Model(await WebAssembly.instantiate(module, {}));
}

async function read(url) {
  if (url.protocol === "file:") {
    return (await import("node:fs/promises")).readFile(url);
  }
  const answer = await fetch(url);
  if (!answer.ok) {
    throw new Error(`${url}: ${answer.status} ${answer.statusText}`);
  }
  return answer.arrayBuffer();
}

/** Return the integers of real numbers, limited to what the port holds; one scale and offset, or one for each of the port's elements. */
export function quantize(port, values) {
  const to = new ARRAYS[port.type](values.length);
  for (let k = 0; k < values.length; k++) {
    const scale = port.scale[port.scale.length > 1 ? k % port.size : 0];
    const offset = port.offset[port.offset.length > 1 ? k % port.size : 0];
    to[k] = Math.min(port.limit, Math.max(-port.limit, Math.floor(values[k] / scale + 0.5) - offset));
  }
  return to;
}

/** Return the real numbers of integers. */
export function dequantize(port, integers) {
  return Float64Array.from(integers, (q, k) => {
    const scale = port.scale[port.scale.length > 1 ? k % port.size : 0];
    const offset = port.offset[port.offset.length > 1 ? k % port.size : 0];
    return (q + offset) * scale;
  });
}

class Model {
  #exports;
  #free = new Map(); // addresses that were given back, by their size
  #end;

  constructor(instance) {
    this.#exports = instance.exports;
    this.#end = instance.exports.__heap_base.value;
  }

  /** The functions of the .wasm; addresses are those of its memory. */
  get exports() {
    return this.#exports;
  }

  /** Begin a stream, with room for one time step of the inputs. Not for models that need whole sequences: they have `run` alone. */
  stream() {
    if (info.whole) {
      throw new Error("@NAME@ needs whole sequences; call run");
    }
    return new Stream(this);
  }

  /**
   * Compute a whole sequence from its start. `inputs` are integers by name, `size` of them for each of `length` steps (or once, for an input
   * without time); returns the outputs, with as many rows as came out.
   */
  run(inputs, length) {
    const state = this.allocate(this.#call("state_size"));
    const given = info.inputs.map((port) => this.#place(port, port.time ? length : 1));
    const rows = info.whole ? Math.floor((info.rows[0] * length + info.rows[1]) / info.rows[2]) : length * info.stepRows + info.finishRows;
    const found = info.outputs.map((port) => this.#place(port, port.time ? rows : 1));
    const work = info.whole ? this.allocate(this.#call("work_size", length)) : null;
    info.inputs.forEach((port, k) => given[k].view().set(check(port, inputs[port.name], port.time ? length : 1)));
    this.#call("init", state.address);
    const addresses = (places) => places.map((place) => place.address);
    const last = work ? [work.address] : [];
    let count = this.#call("run", state.address, ...addresses(given), length, ...addresses(found), ...last);
    if (info.finishes) {
      const after = info.outputs.map((port, k) => found[k].address + (port.time ? count * port.size * found[k].bytes : 0));
      count += this.#call("finish", state.address, ...after);
    }
    const outputs = {};
    info.outputs.forEach((port, k) => {
      outputs[port.name] = found[k].view().slice(0, port.size * (port.time ? (info.countsRows ? count : length) : 1));
    });
    [state, ...given, ...found, ...(work ? [work] : [])].forEach((room) => this.release(room));
    return outputs;
  }

  /** Room of `bytes` in the memory, at a multiple of 16. */
  allocate(bytes) {
    const size = Math.max(16, (bytes + 15) & ~15);
    const known = this.#free.get(size) ?? [];
    if (known.length > 0) {
      return { address: known.pop(), size };
    }
    const memory = this.#exports.memory;
    const address = (this.#end + 15) & ~15;
    const missing = address + size - memory.buffer.byteLength;
    if (missing > 0) {
      memory.grow(Math.ceil(missing / 65536));
    }
    this.#end = address + size;
    return { address, size };
  }

  /** Give room back. */
  release(room) {
    this.#free.set(room.size, [...(this.#free.get(room.size) ?? []), room.address]);
  }

  #call(name, ...values) {
    return this.#exports[`@NAME@_${name}`](...values);
  }

  #place(port, rows) {
    const Kind = ARRAYS[port.type];
    const room = this.allocate(port.size * rows * Kind.BYTES_PER_ELEMENT);
    // a view is made anew each time, since one does not outlive the growth of the memory
    const view = () => new Kind(this.#exports.memory.buffer, room.address, port.size * rows);
    return { ...room, view, bytes: Kind.BYTES_PER_ELEMENT };
  }

  /** Room for `rows` rows of a port, and `view()`, an array of its integers. */
  place(port, rows) {
    return this.#place(port, rows);
  }
}

class Stream {
  #model;
  #state;
  #inputs;
  #outputs;
  #arguments;

  constructor(model) {
    this.#model = model;
    this.#state = model.allocate(model.exports.@NAME@_state_size());
    this.#inputs = info.inputs.map((port) => model.place(port, 1));
    this.#outputs = info.outputs.map((port) => model.place(port, port.time ? Math.max(info.stepRows, info.finishRows) : 1));
    this.#arguments = [this.#state, ...this.#inputs, ...this.#outputs].map((room) => room.address);
    model.exports.@NAME@_init(this.#state.address);
  }

  /** Begin a new sequence. */
  reset() {
    this.#model.exports.@NAME@_reset(this.#state.address);
  }

  /** Take one time step of integers by name; returns the outputs' integers, of an output over time as many rows as came out. */
  step(inputs) {
    info.inputs.forEach((port, k) => this.#inputs[k].view().set(check(port, inputs[port.name], 1)));
    return this.#given(this.#model.exports.@NAME@_step(...this.#arguments));
  }

  /** Return what layers still hold back at the end of a sequence; call reset before the next step. */
  finish() {
    const after = this.#outputs.map((room) => room.address);
    return this.#given(info.finishes ? this.#model.exports.@NAME@_finish(this.#state.address, ...after) : 0);
  }

  /** Give the stream's memory back to the model. */
  close() {
    [this.#state, ...this.#inputs, ...this.#outputs].forEach((room) => this.#model.release(room));
  }

  #given(count) {
    const found = {};
    info.outputs.forEach((port, k) => {
      found[port.name] = this.#outputs[k].view().slice(0, port.size * (port.time && info.countsRows ? count : 1));
    });
    return found;
  }
}

function check(port, values, rows) {
  if (values === undefined || values.length !== port.size * rows) {
    throw new RangeError(`input ${port.name}: ${values === undefined ? "nothing" : values.length} integers, expected ${port.size * rows}`);
  }
  return values;
}
