import { useLayoutEffect, useRef, useState } from "preact/hooks";

/** The distance from the end, in pixels, within which new text is followed. */
const NEAR = 48;

/** Keeps the end of a scrolled element in sight while it grows, unless the reader has scrolled away from it. */
export function useFollowing(conversationId: string) {
  const ref = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  const [isAtEnd, setAtEnd] = useState(true);
  const toEnd = () => {
    const element = ref.current;
    if (element) element.scrollTop = element.scrollHeight;
  };
  // Another conversation is shown from its end.
  useLayoutEffect(() => {
    follows.current = true;
    toEnd();
  }, [conversationId]);
  useLayoutEffect(() => {
    if (follows.current) toEnd();
  });
  const onScroll = () => {
    const element = ref.current;
    if (!element) return;
    const isNear = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR;
    follows.current = isNear;
    setAtEnd(isNear);
  };
  const follow = () => {
    follows.current = true;
    toEnd();
  };
  return { ref, isAtEnd, onScroll, follow };
}
