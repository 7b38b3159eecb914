import { CopyButton } from "../copy-button";

export function CodeBlock({ language, text }: { language: string; text: string }) {
  const name = language === "" ? "Code" : language;
  return (
    <figure class="code-block">
      <figcaption>
        <span>{name}</span>
        <CopyButton text={text} label="Copy code" />
      </figcaption>
      <pre tabIndex={0} role="region" aria-label={`Code: ${name}`}>
        <code>{text}</code>
      </pre>
    </figure>
  );
}
