// The box to try the model, and the settings with this server's address in them. Nothing is sent anywhere else.
"use strict";

const byId = (id) => document.getElementById(id);
let inserted = null;

byId("code").setSelectionRange(1e6, 1e6); // whoever presses the button first completes the end of the example

for (const code of document.querySelectorAll(".copy code")) {
  code.textContent = code.textContent.replaceAll("{origin}", location.origin);
}
for (const button of document.querySelectorAll(".copy button")) {
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
  });
}

byId("form").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const code = byId("code");
  const place = code.selectionStart;
  const body = {
    prompt: code.value.slice(0, place), suffix: code.value.slice(place), max_tokens: 64, path: byId("path").value,
  };
  if (byId("sure").checked) body.min_confidence = 0;
  const headers = { "Content-Type": "application/json" };
  if (byId("token").value) headers.Authorization = `Bearer ${byId("token").value}`;
  byId("complete").disabled = true;
  byId("accept").disabled = true;
  byId("suggestion").firstElementChild.textContent = "";
  try {
    const answer = await fetch("/v1/completions", { method: "POST", headers, body: JSON.stringify(body) });
    const values = await answer.json();
    if (!answer.ok) throw new Error(values.error.message);
    const choice = values.choices[0];
    byId("suggestion").firstElementChild.textContent = choice.text;
    byId("reason").textContent = choice.reason;
    inserted = { place, text: choice.text };
    byId("accept").disabled = choice.text === "";
  } catch (error) {
    const isSilent = error instanceof TypeError; // so fetch tells it
    const what = isSilent ? "the server does not answer. Does it still run?" : error.message;
    byId("reason").textContent = `No completion: ${what}`;
  }
  byId("complete").disabled = false;
});

byId("accept").addEventListener("click", () => {
  const code = byId("code");
  code.setRangeText(inserted.text, inserted.place, inserted.place, "end");
  code.focus();
  byId("accept").disabled = true;
  byId("suggestion").firstElementChild.textContent = "";
});
