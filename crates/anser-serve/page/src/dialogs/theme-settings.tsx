import { setTheme, type Theme, theme } from "../settings/theme";
import { useStore } from "../store";
import { Segments } from "./segments";

const THEMES: { value: Theme; label: string }[] = [
  { value: "system", label: "As the system" },
  { value: "light", label: "Light" },
  { value: "dark", label: "Dark" },
];

export function ThemeSettings() {
  const chosen = useStore(theme, (value) => value);
  return (
    <section>
      <h3>Appearance</h3>
      <Segments name="theme" label="Theme" options={THEMES} value={chosen} onChange={setTheme} />
    </section>
  );
}
