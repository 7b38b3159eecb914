// Drawings of 20 by 20 units. They are decoration: the controls around them have names.

import type { ComponentChildren } from "preact";

function icon(content: ComponentChildren) {
  return () => (
    <svg class="icon" viewBox="0 0 20 20" width="18" height="18" aria-hidden="true" focusable="false">
      {content}
    </svg>
  );
}

export const MenuIcon = icon(<path d="M3 6h14M3 10h14M3 14h14" />);
export const PlusIcon = icon(<path d="M10 4v12M4 10h12" />);
export const SearchIcon = icon(<path d="M9 15A6 6 0 1 0 9 3a6 6 0 0 0 0 12M13.5 13.5 17 17" />);
export const SendIcon = icon(<path d="M10 16V4M5 9l5-5 5 5" />);
export const StopIcon = icon(<rect class="filled" x="5.5" y="5.5" width="9" height="9" rx="1.5" />);
export const CopyIcon = icon(<path d="M7 7V4.5C7 3.7 7.7 3 8.5 3h7c.8 0 1.5.7 1.5 1.5v7c0 .8-.7 1.5-1.5 1.5H13M4.5 7h7c.8 0 1.5.7 1.5 1.5v7c0 .8-.7 1.5-1.5 1.5h-7c-.8 0-1.5-.7-1.5-1.5v-7C3 7.7 3.7 7 4.5 7" />);
export const CheckIcon = icon(<path d="m4 10.5 4 4 8-9" />);
export const EditIcon = icon(<path d="m4 16 .8-3.6L13.3 4l2.7 2.7-8.4 8.5zM11.5 5.8l2.7 2.7" />);
export const AgainIcon = icon(<path d="M16 10a6 6 0 1 1-1.8-4.3L16 7.5M16 3.5v4h-4" />);
export const TrashIcon = icon(<path d="M4 6h12M8 6V4h4v2M5.5 6l.7 10h7.6l.7-10M8.5 9v4M11.5 9v4" />);
export const DownloadIcon = icon(<path d="M10 3v10M5.5 9l4.5 4.5L14.5 9M4 17h12" />);
export const SlidersIcon = icon(<path d="M3 6h7M14 6h3M3 14h3M10 14h7M12 4v4M8 12v4" />);
export const CloseIcon = icon(<path d="m5 5 10 10M15 5 5 15" />);
export const LeftIcon = icon(<path d="m12 5-5 5 5 5" />);
export const RightIcon = icon(<path d="m8 5 5 5-5 5" />);
export const DownIcon = icon(<path d="M10 4v12M5 11l5 5 5-5" />);
export const OnwardIcon = icon(<path d="M4 5l6 5-6 5zM14 5v10" />);
export const BookmarkIcon = icon(<path d="M6 3h8v14l-4-3.5L6 17z" />);

/** A goose's head and neck. */
export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" width="26" height="26" aria-hidden="true" focusable="false">
      <rect class="mark-ground" width="32" height="32" rx="8" />
      <path class="mark-line" d="M15.5 11.5c4 2.5-1.5 6.5.5 10 1.2 2.2 3.8 3 7 3" />
      <circle class="mark-fill" cx="15" cy="10.5" r="4.2" />
      <path class="mark-fill" d="M11.8 8.8 5 11.8l7 1.7z" />
      <circle class="mark-ground" cx="14.8" cy="9.8" r="1" />
    </svg>
  );
}
