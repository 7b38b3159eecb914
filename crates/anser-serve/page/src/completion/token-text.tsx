import { useEffect, useRef } from "preact/hooks";
import { percent } from "../format";
import { type ScoredToken, surprise, visible } from "./tokens";

interface Props {
  prompt: string;
  tokens: ScoredToken[];
  selected: number;
  onSelect: (index: number) => void;
}

/** A text whose tokens are selected by the pointer, or by the arrow keys once one of them has the focus. */
export function TokenText({ prompt, tokens, selected, onSelect }: Props) {
  const box = useRef<HTMLDivElement>(null);
  // The newest token stays in sight while the text grows.
  useEffect(() => {
    if (box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [tokens.length]);
  const indexOf = (target: EventTarget | null) => {
    const index = target instanceof HTMLElement ? target.dataset["index"] : undefined;
    return index === undefined ? null : Number(index);
  };
  const select = (event: Event) => {
    const index = indexOf(event.target);
    if (index !== null) onSelect(index);
  };
  const move = (event: KeyboardEvent) => {
    const index = indexOf(event.target);
    if (index === null) return;
    const last = tokens.length - 1;
    const to = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    box.current?.querySelector<HTMLElement>(`[data-index="${Math.min(Math.max(to, 0), last)}"]`)?.focus();
  };
  return (
    <div class="text" ref={box} role="group" aria-label="Text with its tokens" onPointerOver={select} onFocusIn={select} onKeyDown={move}>
      <span class="prompt">{prompt}</span>
      {tokens.map((token, index) => (
        <span
          key={index}
          data-index={index}
          class={`token surprise-${surprise(token)}`}
          role="button"
          aria-pressed={index === selected}
          aria-label={`${visible(token.text)}, ${token.probability === null ? "the first token" : percent(token.probability)}`}
          tabIndex={index === selected ? 0 : -1}
        >
          {token.text}
        </span>
      ))}
    </div>
  );
}
