/** What this browser has for the package. */
export interface Probe {
  /** The GPU that would be used; null if there is none. */
  webgpu: { vendor: string; architecture: string; isFallback: boolean; features: string[] } | null;
  /** Whether threads could share memory: the page is cross-origin isolated. */
  threads: boolean;
  /** Whether downloaded models can be kept. */
  opfs: boolean;
  /** Bytes that this site may still store. */
  quota: number;
}

interface Adapter {
  info?: { vendor: string; architecture: string; isFallbackAdapter?: boolean };
  features: Iterable<string>;
}

/** Looks at what this browser has, without loading anything. */
export async function probe(): Promise<Probe> {
  const gpu = (navigator as { gpu?: { requestAdapter(options: object): Promise<Adapter | null> } }).gpu;
  const adapter = await gpu?.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  const storage = (navigator as { storage?: StorageManager }).storage;
  const opfs = await storage?.getDirectory?.().then(
    () => true,
    () => false,
  );
  const { quota = 0, usage = 0 } = (await storage?.estimate?.().catch(() => null)) ?? {};
  return {
    webgpu: adapter
      ? {
          vendor: adapter.info?.vendor ?? "",
          architecture: adapter.info?.architecture ?? "",
          isFallback: adapter.info?.isFallbackAdapter ?? false,
          features: [...adapter.features].sort(),
        }
      : null,
    threads: globalThis.crossOriginIsolated === true,
    opfs: opfs === true,
    quota: Math.max(quota - usage, 0),
  };
}
