/** Entry of an instance as a Web Worker. */
import { buffersOf, type Job, Serving } from "./serve.ts";

const serving = new Serving();

addEventListener("message", (event: MessageEvent<Job>) => {
  void serving.answer(event.data).then((answer) => postMessage(answer, { transfer: buffersOf(answer) }));
});
