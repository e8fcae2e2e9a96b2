// SPDX-License-Identifier: GPL-3.0-only
//
// The form: look at the ceremonies of the mesh, gather what the mouse gives, contribute, show the hash.
import { contribute, Mesh } from './steps.js';

const POOL_BYTES = 1536; // 16 for each of the moves that the meter asks for
const $ = (id) => document.getElementById(id);
const pool = new DataView(new ArrayBuffer(POOL_BYTES));
let mesh = new Mesh('');
let moves = 0;
let busy = false;

function say(text, wrong = false) {
  $('status').textContent = text;
  $('status').classList.toggle('wrong', wrong);
}

function ready() {
  $('moves').value = moves;
  $('contribute').disabled = busy || moves < $('moves').max;
}

/** Where the mouse is, and when: what nobody else knows to the last bit. It only adds to the browser's randomness. */
function gather(event) {
  const at = (moves % (POOL_BYTES / 16)) * 16;
  pool.setFloat64(at, event.timeStamp + performance.now());
  pool.setFloat64(at + 8, (event.clientX ?? event.key?.codePointAt(0) ?? 0) * 65536 + (event.clientY ?? 0));
  moves += 1;
  ready();
}

function forget() {
  new Uint8Array(pool.buffer).fill(0);
  moves = 0;
  ready();
}

async function show(circuit) {
  const told = await mesh.told(circuit);
  const rows = told.contributions.map((one) => {
    const row = document.createElement('tr');
    for (const text of [one.number, one.name, one.hash]) row.insertCell().textContent = text;
    return row;
  });
  $('steps').replaceChildren(...rows);
  $('part').dataset.state = told.state;
  say(`Run ${told.run} of ${circuit} is ${told.state}.`);
}

async function doing(work) {
  busy = true;
  ready();
  try {
    await work();
  } catch (problem) {
    const again = problem.status === 409 ? ' Nothing was recorded: contribute again, it begins on that key.' : '';
    say(`${problem.message}.${again}`, true);
  } finally {
    busy = false;
    ready();
  }
}

$('mesh').addEventListener('submit', (event) => {
  event.preventDefault();
  void doing(async () => {
    mesh = new Mesh($('key').value.trim());
    const open = (await mesh.ceremonies()).filter((one) => one.state === 'open');
    const options = open.map((one) => new Option(one.circuit, one.circuit));
    $('circuit').replaceChildren(...options);
    $('part').hidden = !open.length;
    if (!open.length) return say('No ceremony takes contributions at present.');
    const wanted = new URLSearchParams(location.search).get('circuit');
    if (open.some((one) => one.circuit === wanted)) $('circuit').value = wanted;
    return show($('circuit').value);
  });
});

$('circuit').addEventListener('change', () => void doing(() => show($('circuit').value)));

$('part').addEventListener('submit', (event) => {
  event.preventDefault();
  if (busy || moves < $('moves').max) return;
  void doing(async () => {
    const given = pool.buffer.slice(0);
    forget();
    const done = await contribute(mesh, $('circuit').value, $('name').value.trim(), given, say);
    await show($('circuit').value);
    $('hash').textContent = done.hash;
    $('done').hidden = false;
    say(`Contribution ${done.number} is recorded.`);
  });
});

addEventListener('pointermove', gather);
addEventListener('keydown', gather);
