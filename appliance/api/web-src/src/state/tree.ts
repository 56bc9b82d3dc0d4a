/** A chat is a tree: an edited question and an answer given again are branches beside the first. Pure. */

import type { Message } from '../api/types.js';

export class MessageTree {
  readonly #byId = new Map<number, Message>();
  readonly #children = new Map<number | null, Message[]>();

  constructor(messages: readonly Message[]) {
    for (const message of messages) {
      this.#byId.set(message.id, message);
      const siblings = this.#children.get(message.parent_id);
      if (siblings === undefined) this.#children.set(message.parent_id, [message]);
      else siblings.push(message);
    }
  }

  get(id: number): Message | undefined {
    return this.#byId.get(id);
  }

  /** From the first message to `leafId`. */
  path(leafId: number | null): Message[] {
    const path: Message[] = [];
    for (let at = leafId === null ? undefined : this.#byId.get(leafId); at !== undefined; ) {
      path.push(at);
      at = at.parent_id === null ? undefined : this.#byId.get(at.parent_id);
      if (path.length > this.#byId.size) break; // a circle would be a fault of the box
    }
    return path.reverse();
  }

  /** The message with those beside it, oldest first. */
  siblings(message: Message): Message[] {
    return this.#children.get(message.parent_id) ?? [message];
  }

  /** The newest end below a message. */
  newestLeaf(id: number): number {
    let at = id;
    for (;;) {
      const children = this.#children.get(at);
      if (children === undefined) return at;
      at = children[children.length - 1]!.id;
    }
  }
}
