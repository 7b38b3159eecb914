// Markdown as elements. A model's answer is hostile input: no HTML is made of it anywhere. `marked` takes the text apart, and this file
// makes elements with text in them. HTML in an answer is shown as text, images become links, and links lead to the web alone.

import { Marked, type Token, type Tokens } from "marked";
import { Component, type ComponentChildren, createElement } from "preact";
import { CodeBlock } from "./code-block";
import { safeAddress, withoutReferences } from "./text";

/** Deeper nesting is shown as text, so that it cannot exhaust the stack. */
const MAX_DEPTH = 16;

const marked = new Marked({
  gfm: true,
  breaks: true,
  tokenizer: {
    html: () => undefined,
    tag: () => undefined,
  },
});

/** A whole text, which is taken apart again only when it has changed. */
export class Markdown extends Component<{ text: string }> {
  override shouldComponentUpdate(next: { text: string }) {
    return next.text !== this.props.text;
  }

  override render() {
    return (
      <div class="markdown">
        {blocksOf(this.props.text).map((token, index) => (
          <Block key={index} token={token} />
        ))}
      </div>
    );
  }
}

function blocksOf(text: string): Token[] {
  try {
    return marked.lexer(text);
  } catch {
    // Nested too deep for the stack.
    return [{ type: "text", raw: text, text }];
  }
}

/** A block, which is rendered again only when its text has changed: while an answer streams that is its last one. */
class Block extends Component<{ token: Token }> {
  override shouldComponentUpdate(next: { token: Token }) {
    return next.token.raw !== this.props.token.raw;
  }

  override render() {
    return element(this.props.token, 0);
  }
}

function elements(tokens: Token[] | undefined, depth: number): ComponentChildren[] {
  return (tokens ?? []).map((token) => element(token, depth));
}

function element(token: Token, depth: number): ComponentChildren {
  if (depth > MAX_DEPTH) return token.raw;
  const inner = () => elements((token as Tokens.Generic).tokens, depth + 1);
  switch (token.type) {
    case "paragraph":
      return <p>{inner()}</p>;
    case "heading":
      // The page's own headings come before those of an answer.
      return createElement(`h${Math.min((token as Tokens.Heading).depth + 2, 6)}`, null, inner());
    case "blockquote":
      return <blockquote>{inner()}</blockquote>;
    case "code":
      return <CodeBlock language={languageOf(token as Tokens.Code)} text={(token as Tokens.Code).text} />;
    case "list":
      return list(token as Tokens.List, depth);
    case "table":
      return table(token as Tokens.Table, depth);
    case "hr":
      return <hr />;
    case "strong":
      return <strong>{inner()}</strong>;
    case "em":
      return <em>{inner()}</em>;
    case "del":
      return <del>{inner()}</del>;
    case "codespan":
      return <code>{(token as Tokens.Codespan).text}</code>;
    case "br":
      return <span class="break" />;
    case "link":
      return link(token as Tokens.Link, inner());
    case "image":
      return link(token as Tokens.Image, [(token as Tokens.Image).text || (token as Tokens.Image).href]);
    case "checkbox":
      return (token as Tokens.Checkbox).checked ? "☑ " : "☐ ";
    case "escape":
      return (token as Tokens.Escape).text;
    case "text":
      return (token as Tokens.Text).tokens ? inner() : withoutReferences((token as Tokens.Text).text);
    case "space":
    case "def":
      return null;
    default:
      return token.raw;
  }
}

function languageOf({ lang }: Tokens.Code): string {
  return /^\S*/.exec(lang ?? "")?.[0] ?? "";
}

function list({ ordered, start, items }: Tokens.List, depth: number) {
  const entries = items.map((item) => <li>{elements(item.tokens, depth + 1)}</li>);
  return ordered ? <ol start={start === "" ? 1 : start}>{entries}</ol> : <ul>{entries}</ul>;
}

function table({ header, rows }: Tokens.Table, depth: number) {
  const cells = (tag: "th" | "td", row: Tokens.TableCell[]) =>
    row.map((cell) => createElement(tag, { class: cell.align ?? undefined }, elements(cell.tokens, depth + 1)));
  return (
    <div class="wide" role="region" aria-label="Table" tabIndex={0}>
      <table>
        <thead>
          <tr>{cells("th", header)}</tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr>{cells("td", row)}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function link({ href, title }: Tokens.Link | Tokens.Image, content: ComponentChildren[]) {
  const address = safeAddress(withoutReferences(href));
  if (address === null) return content;
  return (
    <a href={address} title={title ?? undefined} target="_blank" rel="noopener noreferrer nofollow">
      {content}
    </a>
  );
}
