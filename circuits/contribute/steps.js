// SPDX-License-Identifier: GPL-3.0-only
//
// What the page asks of the mesh and of its worker.

export class Refusal extends Error {
  /** @param {string} detail @param {number} status */
  constructor(detail, status) {
    super(detail);
    this.status = status;
  }
}

/** Calls of the mesh that serves this page. */
export class Mesh {
  constructor(key) {
    this.headers = { Authorization: `Bearer ${key}` };
  }

  async ask(path, more = {}) {
    const answer = await fetch(path, { ...more, headers: { ...this.headers, ...more.headers } });
    if (answer.ok) return answer;
    const said = await answer.json().catch(() => ({}));
    throw new Refusal(said.detail ?? `the mesh answered ${answer.status}`, answer.status);
  }

  async ceremonies() {
    return (await (await this.ask('/v1/ceremonies?limit=1000')).json()).ceremonies;
  }

  async told(circuit) {
    return (await this.ask(`/v1/ceremonies/${encodeURIComponent(circuit)}`)).json();
  }

  async fetched(digest) {
    return (await this.ask(`/v1/blobs/${digest}`)).arrayBuffer();
  }

  async stored(digest, bytes) {
    await this.ask(`/v1/blobs/${digest}`, { method: 'PUT', body: bytes });
  }

  async recorded(circuit, step) {
    const headers = { 'Content-Type': 'application/json' };
    const path = `/v1/ceremonies/${encodeURIComponent(circuit)}/contributions`;
    return (await this.ask(path, { method: 'POST', headers, body: JSON.stringify(step) })).json();
  }
}

/** Why a key's own list is not that of the transcript; empty where it is. */
export function unlike(told, listed) {
  const steps = told.contributions;
  if (listed.length !== steps.length) return `the newest key lists ${listed.length} contributions, not ${steps.length}`;
  const other = steps.find((one, i) => one.hash !== listed[i].transcript || one.name !== listed[i].name);
  return other ? `the newest key does not say of contribution ${other.number} what the transcript says` : '';
}

/**
 * Contribute to the newest key; {number, hash} once it is recorded. moves: bytes of the mouse, which are overwritten.
 * say: hears what is being done.
 */
export async function contribute(mesh, circuit, name, moves, say) {
  const told = await mesh.told(circuit);
  if (told.state !== 'open') throw new Error(`run ${told.run} is ${told.state}: it takes no further contribution`);
  say('Fetching the newest key …');
  const base = await mesh.fetched(told.zkey);
  say('Contributing: this takes a while, keep the page open …');
  const { zkey, digest, hash } = await toiled(told, { base, digest: told.zkey, name, moves });
  say('Storing the key …');
  await mesh.stored(digest, zkey);
  const after = await mesh.recorded(circuit, { run: told.run, name, hash, base: told.zkey, zkey: digest });
  return { number: after.contributions.find((one) => one.zkey === digest).number, hash };
}

function toiled(told, task) {
  const worker = new Worker('toil.js');
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => {
      if (data.problem) reject(new Error(data.problem));
      else if (data.zkey) resolve(data);
      else if (unlike(told, data.listed)) reject(new Error(`${unlike(told, data.listed)}: tell the operator`));
    };
    worker.onerror = (event) => reject(new Error(event.message || 'the worker did not start'));
    worker.postMessage(task, [task.base, task.moves]); // both are the worker's alone from here on
  }).finally(() => worker.terminate());
}
