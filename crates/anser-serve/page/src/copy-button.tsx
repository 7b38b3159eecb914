import { useEffect, useState } from "preact/hooks";
import { CheckIcon, CopyIcon } from "./icons";
import { notify } from "./notice";

/** How long the button tells that it has copied, in milliseconds. */
const TOLD_TIME = 2000;

export function CopyButton({ text, label }: { text: string; label: string }) {
  const [hasCopied, setCopied] = useState(false);
  useEffect(() => {
    if (!hasCopied) return;
    const timer = setTimeout(() => setCopied(false), TOLD_TIME);
    return () => clearTimeout(timer);
  }, [hasCopied]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
    } catch {
      // Browsers hand out the clipboard on https and localhost alone.
      notify({ text: "The browser does not let this page copy: select the text and copy it yourself." });
    }
  };
  return (
    <button type="button" class="quiet" aria-label={hasCopied ? "Copied" : label} title={label} onClick={copy}>
      {hasCopied ? <CheckIcon /> : <CopyIcon />}
    </button>
  );
}
