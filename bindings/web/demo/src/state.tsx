import { bytes, count, number } from "@page/format";
import { DownloadIcon } from "@page/icons";
import type { Model, Session, State } from "anser-web";
import { useEffect, useRef, useState } from "preact/hooks";
import { announcement, messageOf } from "./engine";
import { draw, largest, norm } from "./heat";

const EXAMPLE = "User: My name is Ada, and my favourite colour is green.";

interface Read {
  state: State;
  nTokens: number;
}

/** What the model remembers of a text, as pictures. */
export function StateView({ model, isShown }: { model: Model; isShown: boolean }) {
  const [text, setText] = useState(EXAMPLE);
  const [layer, setLayer] = useState(0);
  const [read, setRead] = useState<Read | null>(null);
  const [isReading, setReading] = useState(false);
  const [told, setTold] = useState("");
  const session = useRef<Session | null>(null);
  const isGone = useRef(false);

  const show = async (session: Session) => {
    const [state, nTokens] = await Promise.all([session.state(), session.nTokens()]);
    if (!isGone.current) setRead({ state, nTokens });
  };
  const attempt = async (action: () => Promise<string>) => {
    setReading(true);
    try {
      const message = await action();
      setTold(message);
      announcement.set(message);
    } catch (error) {
      if (!isGone.current) setTold(messageOf(error));
    } finally {
      setReading(false);
    }
  };
  /** Reads the text from its beginning, and shows the state after each of some pieces. */
  const readText = () =>
    attempt(async () => {
      const used = (session.current ??= await model.session());
      await used.reset();
      const tokens = await model.encode(text);
      const length = Math.max(1, Math.ceil(tokens.length / 24));
      for (let at = 0; at < tokens.length && !isGone.current; at += length) {
        // The last token's logits are what a text goes on from.
        await used.feed(tokens.subarray(at, at + length), { logits: at + length < tokens.length ? "none" : "last" });
        await show(used);
      }
      if (tokens.length === 0) await show(used);
      return "";
    });
  const save = () =>
    attempt(async () => {
      if (!session.current) return "";
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await session.current.save());
      link.download = "state.safetensors";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
      return "The state is in your downloads. It can be opened here, and by every other Anser with this model.";
    });
  const open = (file: File) =>
    attempt(async () => {
      const used = (session.current ??= await model.session());
      const remark = await used.open(file);
      await show(used);
      return remark ?? `${file.name} is open.`;
    });
  const goOn = () =>
    attempt(async () => {
      if (!session.current) return "";
      const fork = await session.current.fork();
      try {
        return `It would go on: “${(await fork.generate("", { maxTokens: 24 }).text()).trim()} …”`;
      } finally {
        await fork.close();
      }
    });

  useEffect(() => {
    if (isShown && read === null && !isReading) void readText();
  }, [isShown]);
  useEffect(
    () => () => {
      isGone.current = true;
    },
    [],
  );

  const wkv = model.info.state.find(({ name }) => name === "wkv");
  const [nHead, n] = wkv?.shape.length === 3 ? [wkv.shape[0] ?? 0, wkv.shape[1] ?? 0] : [0, 0];
  return (
    <div class="wide-column">
      <div class="lead-row">
        <h2>What the model remembers</h2>
        <p class="muted">
          All that it has read lies in {bytes(4 * (model.info.state.at(-1)?.end ?? 0))}, however long the text is. Each square is a matrix of a
          head: orange numbers are positive, blue ones negative.
        </p>
      </div>
      <form
        class="field"
        onSubmit={(event) => {
          event.preventDefault();
          void readText();
        }}
      >
        <span id="state-text">Text to read</span>
        <textarea rows={3} aria-labelledby="state-text" value={text} onInput={(event) => setText(event.currentTarget.value)} />
        <div class="row">
          <button type="submit" class="primary" disabled={isReading}>
            Read
          </button>
          <button type="button" class="plain" disabled={isReading || !read} onClick={() => void goOn()}>
            Go on from here
          </button>
          <button type="button" class="plain" disabled={isReading || !read} onClick={() => void save()}>
            <DownloadIcon /> Save
          </button>
          <label class="plain file">
            Open…
            <input
              type="file"
              accept=".safetensors,.st,.pth"
              disabled={isReading}
              onChange={(event) => {
                const file = event.currentTarget.files?.[0];
                if (file) void open(file);
                event.currentTarget.value = "";
              }}
            />
          </label>
          {read && <span class="muted">after {count(read.nTokens, "token")}</span>}
        </div>
      </form>
      {told !== "" && <p class="told">{told}</p>}
      {nHead === 0 ? (
        <p class="muted">This model’s state has no matrices to draw.</p>
      ) : (
        <>
          <label class="slider">
            <span>
              Layer {layer + 1} of {model.info.nLayer}
            </span>
            <input type="range" min={0} max={model.info.nLayer - 1} value={layer} onInput={(event) => setLayer(Number(event.currentTarget.value))} />
          </label>
          {read && <Layer state={read.state} layer={layer} nHead={nHead} n={n} />}
        </>
      )}
    </div>
  );
}

function Layer({ state, layer, nHead, n }: { state: State; layer: number; nHead: number; n: number }) {
  const most = largest(state.wkv(layer));
  const heads = Array.from({ length: nHead }, (_, head) => state.wkv(layer, head));
  return (
    <ul class="heads">
      {heads.map((numbers, head) => (
        <li key={head}>
          <Head numbers={numbers} n={n} most={most} label={`Head ${head + 1}: length ${number(norm(numbers))}, largest number ${largest(numbers).toPrecision(2)}`} />
          <span class="muted" aria-hidden="true">
            Head {head + 1}
          </span>
        </li>
      ))}
    </ul>
  );
}

function Head({ numbers, n, most, label }: { numbers: Float32Array; n: number; most: number; label: string }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    if (canvas.current) draw(canvas.current, numbers, n, most || 1);
  }, [numbers, n, most]);
  return <canvas ref={canvas} role="img" aria-label={label} title={label} />;
}
