// What the server is asked for, and what it says when it cannot.

/** What went wrong, as it is shown to the user. */
export class Refused extends Error {}

async function answer(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : new Refused("The server does not answer: it may have ended, or cut off what was sent.");
  }
  if (response.ok) return response;
  let message = `The server answers ${response.status}.`;
  if (response.headers.get("content-type")?.startsWith("application/json")) message = (await response.json()).error;
  throw new Refused(message);
}

const query = (values) => new URLSearchParams(values).toString();

export const get = async (path, values = {}) => (await answer(`api/${path}?${query(values)}`)).json();

export const getText = async (path) => (await answer(`api/${path}`)).text();

export const post = async (path, values = {}, body = null) =>
  (await answer(`api/${path}?${query(values)}`, { method: "POST", body })).json();

/** Numbers with what they are: {values: Float32Array, shape, ...}. */
export async function getNumbers(path, values) {
  const response = await answer(`api/${path}?${query(values)}`);
  const about = JSON.parse(response.headers.get("x-about"));
  // Little-endian, as on every machine that has a browser.
  return { ...about, values: new Float32Array(await response.arrayBuffer()) };
}

/**
 * Runs one call at a time; of those that come meanwhile only the newest, which gets the newest arguments.
 * So what is shown is never older than what was asked for last.
 */
export function newestWins(work) {
  let running = false;
  let next = null;
  return async function ask(...given) {
    next = given;
    if (running) return;
    running = true;
    try {
      while (next) {
        const taken = next;
        next = null;
        await work(...taken);
      }
    } finally {
      running = false;
    }
  };
}
