import { CloseIcon } from "./icons";
import { dismiss, notice } from "./notice";
import { useStore } from "./store";

export function NoticeBar() {
  const shown = useStore(notice, (value) => value);
  return (
    <div class="notice-place" role="status">
      {shown && (
        <div class="notice">
          <span>{shown.text}</span>
          {shown.action && (
            <button
              type="button"
              class="link"
              onClick={() => {
                shown.action?.act();
                dismiss(shown);
              }}
            >
              {shown.action.label}
            </button>
          )}
          <button type="button" class="quiet" aria-label="Dismiss" onClick={() => dismiss(shown)}>
            <CloseIcon />
          </button>
        </div>
      )}
    </div>
  );
}
