// The box to try the model, and the settings with this server's address in them. Nothing is sent anywhere else.
"use strict";

const byId = (id) => document.getElementById(id);
let inserted = null;

byId("code").setSelectionRange(1e6, 1e6); // whoever presses the button first completes the end of the example

for (const code of document.querySelectorAll(".copy code")) {
  code.textContent = code.textContent.replaceAll("{origin}", location.origin);
}
for (const button of document.querySelectorAll(".copy button")) {
  const name = button.closest("details").querySelector("summary").textContent;
  button.setAttribute("aria-label", `Copy: ${name}`);
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected: press Ctrl-C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 3000);
  });
}

// A completion belongs to the text and the cursor that it was made for. Any edit makes it obsolete.
const forget = () => {
  inserted = null;
  byId("accept").disabled = true;
  byId("suggestion").firstElementChild.textContent = "";
  byId("reason").textContent = "";
};
byId("code").addEventListener("input", forget);
byId("code").addEventListener("keydown", (pressed) => {
  if (pressed.key === "Enter" && (pressed.ctrlKey || pressed.metaKey)) {
    pressed.preventDefault();
    byId("form").requestSubmit();
  }
});

const authorization = () => {
  const token = byId("token").value;
  if (/[^\x21-\x7e]/.test(token)) throw new Error("a token has ASCII characters only");
  return token ? { Authorization: `Bearer ${token}` } : {};
};

// With the token, the page has facts and an example of the repository. The token stays in its field.
byId("token").addEventListener("input", async () => {
  try {
    const headers = authorization();
    const answer = await fetch("/", { headers });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!page.querySelector("dt") || headers.Authorization !== authorization().Authorization) return;
    document.title = page.title;
    document.querySelector("header").replaceWith(page.querySelector("header"));
    const code = byId("code");
    if (code.value === code.defaultValue) {
      code.defaultValue = code.value = page.getElementById("code").defaultValue;
      code.setSelectionRange(1e6, 1e6);
    }
    byId("reason").textContent = "The token is right.";
  } catch { /* it is not complete yet; the button says what is wrong */ }
});

byId("form").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const code = byId("code");
  const button = byId("complete");
  if (button.getAttribute("aria-disabled") === "true") return; // not `disabled`, which would take the focus away
  const text = code.value;
  const place = code.selectionStart;
  const body = { prompt: text.slice(0, place), suffix: text.slice(place), max_tokens: 64, path: byId("path").value };
  if (byId("sure").checked) body.min_confidence = 0;
  forget();
  button.setAttribute("aria-disabled", "true");
  byId("reason").textContent = "…";
  try {
    const headers = { "Content-Type": "application/json", ...authorization() };
    const answer = await fetch("/v1/completions", { method: "POST", headers, body: JSON.stringify(body) });
    const values = await answer.json();
    if (!answer.ok) throw new Error(values.error.message);
    if (code.value === text) {
      const choice = values.choices[0];
      byId("suggestion").firstElementChild.textContent = choice.text;
      byId("reason").textContent = choice.reason;
      inserted = { place, text: choice.text };
      byId("accept").disabled = choice.text === "";
    } else {
      byId("reason").textContent = "The text has changed since. Ask again.";
    }
  } catch (error) {
    const isSilent = error instanceof TypeError; // so fetch tells it
    const what = isSilent ? "the server does not answer. Does it still run?" : error.message;
    byId("reason").textContent = `No completion: ${what}`;
  }
  button.removeAttribute("aria-disabled");
  byId("reason").scrollIntoView({ block: "nearest", behavior: "instant" });
});

byId("accept").addEventListener("click", () => {
  const { place, text } = inserted;
  const code = byId("code");
  code.focus();
  code.setSelectionRange(place, place);
  // Unlike `setRangeText`, this can be undone. It is an edit, so it also forgets the completion.
  if (!document.execCommand("insertText", false, text)) {
    code.setRangeText(text, place, place, "end");
    forget();
  }
});
