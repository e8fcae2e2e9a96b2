/** The committed kernels (libs/shardy_common/kernels) as the worker runs them: text and numbers, no generator. */
import manifestJson from "../../../libs/shardy_common/kernels/manifest.json";

const texts = import.meta.glob<string>("../../../libs/shardy_common/kernels/*.wgsl", {
  query: "?raw",
  import: "default",
  eager: true,
});

export type KernelEntry = (typeof manifestJson.variants)[number];

function textOf(file: string): string {
  const text = texts[`../../../libs/shardy_common/kernels/${file}`];
  if (text === undefined) throw new Error(`kernel ${file} is in the manifest and not among the files`);
  return text;
}

export const manifest = manifestJson;
export const kernelText = (entry: { file: string }): string => textOf(entry.file);
