/**
 * Keeps the end of the conversation in view while it grows, but only as long as the reader is there.
 *
 * The reader leaves by scrolling up: new content never makes the position smaller, so a smaller one is the reader's.
 */

const NEAR_END_PX = 48;

export class StickyScroll {
  #stuck = true;
  #lastTop = 0;

  /**
   * @param {HTMLElement} box the element that scrolls
   * @param {HTMLButtonElement} jump shown when the reader is elsewhere
   */
  constructor(box, jump) {
    this.box = box;
    this.jump = jump;
    box.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    jump.addEventListener('click', () => this.toEnd());
    new ResizeObserver(() => this.follow()).observe(box);
  }

  get #distance() {
    return this.box.scrollHeight - this.box.clientHeight - this.box.scrollTop;
  }

  /** To be called after the content grew. */
  follow() {
    if (this.#stuck) this.box.scrollTop = this.box.scrollHeight;
    this.#showJump();
  }

  toEnd() {
    this.#stuck = true;
    this.follow();
  }

  /** To be called after the reader opened or closed something: the view stays where it is. */
  settle() {
    this.#stuck = this.#distance <= NEAR_END_PX;
    this.#lastTop = this.box.scrollTop;
    this.#showJump();
  }

  #scrolled() {
    const top = this.box.scrollTop;
    if (this.#distance <= NEAR_END_PX) this.#stuck = true;
    else if (top < this.#lastTop - 1) this.#stuck = false;
    this.#lastTop = top;
    this.#showJump();
  }

  #showJump() {
    this.jump.hidden = this.#stuck || this.#distance <= NEAR_END_PX;
  }
}
