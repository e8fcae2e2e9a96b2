/** Adapter and device: what the kernels ask for, and words for what is missing. */

export type Adapter = { device: GPUDevice; name: string; dp4a: boolean; limitBytes: number };

/** Asked for at most; a product that needs a larger buffer is cut into blocks. */
const BINDING_BYTES_WANTED = 1024 * 1024 * 1024;

/**
 * The device, or a sentence that says why there is none. An adapter that only imitates a GPU on the processor is
 * refused unless `software`: the engine does the same work there many times faster.
 */
export async function openDevice(gpu: GPU | undefined, software: boolean): Promise<Adapter | string> {
  if (gpu === undefined) return "This browser has no WebGPU";
  try {
    const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
    if (adapter === null) return "The browser offers no graphics adapter";
    if (adapter.info.isFallbackAdapter && !software) return "The graphics adapter is an imitation in software";
    const limitBytes = Math.min(
      adapter.limits.maxStorageBufferBindingSize,
      adapter.limits.maxBufferSize,
      BINDING_BYTES_WANTED,
    );
    const device = await adapter.requestDevice({
      requiredLimits: { maxStorageBufferBindingSize: limitBytes, maxBufferSize: limitBytes },
    });
    const { vendor, architecture, device: model, description } = adapter.info;
    const name = description || [vendor, architecture, model].filter(Boolean).join(" ") || "unnamed adapter";
    // The set is the only thing that tells; browsers without it have no such builtin either.
    const dp4a = gpu.wgslLanguageFeatures?.has("packed_4x8_integer_dot_product") ?? false;
    return { device, name, dp4a, limitBytes };
  } catch (error) {
    return `The graphics adapter can't be used: ${String(error)}`;
  }
}
